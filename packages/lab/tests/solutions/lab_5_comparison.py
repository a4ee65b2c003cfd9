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
