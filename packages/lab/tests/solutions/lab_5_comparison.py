"""A teacher's answers to lab_5_comparison; the tests put them into the notebook."""

one_block = "c"
observations = len(lesson.log_ratios())
ratio = float(np.exp(logs.mean()))
lower = float(np.exp(logs.mean() - stats.t.ppf(0.975, len(logs) - 1) * logs.std() / np.sqrt(len(logs))))
largest_noise = float(np.exp(np.abs(np.log(lesson.aa_ratios())).max()))
answered_s = (lambda p: (p.mean_s - 30 * p.failed) / (1 - p.failed))(
    next(iter(lesson.with_failures().predictions.values()))
)
simulated = "c"
claim = "b"
student = "Ada Lovelace"
own_ratio = float(np.exp(np.mean(lesson.own_numbers(student)["log_ratios"])))
own_lower = (
    lambda own: float(np.exp(np.mean(own) - stats.t.ppf(0.975, len(own) - 1) * np.std(own, ddof=1) / np.sqrt(len(own))))
)(lesson.own_numbers(student)["log_ratios"])
own_answered_s = (lambda own: (own["mean_s"] - own["failed"] * own["timeout_s"]) / (1 - own["failed"]))(
    lesson.own_numbers(student)
)
