"""A teacher's answers to lab_3_cold_starts; the tests put them into the notebook."""

capacity_rps = 0.3 / lesson.facts()["cpu_of_an_answer_s"]
faster_start_s = 0.3 * lesson.facts()["start_s"]
backlog = (11 - capacity_rps) * (lesson.facts()["start_s"] + 1)
catch_up_s = backlog / (4 * capacity_rps - 11)
factor = 6.0
predicted_s = 18.0
settings = {"min_replicas": 2, "max_replicas": 3}
asleep = 2.718281828**-0.5
student = "Ada Lovelace"
own_backlog = (
    lambda own: (own["rps"] - own["quota_cores"] / own["cpu_of_an_answer_s"]) * (own["delay_s"] + own["start_s"])
)(lesson.own_numbers(student))
own_catch_up_s = (
    lambda own: own_backlog / (own["replicas"] * own["quota_cores"] / own["cpu_of_an_answer_s"] - own["rps"])
)(lesson.own_numbers(student))
own_asleep = (lambda own: 2.718281828 ** (-own["keep_min"] / own["every_min"]))(lesson.own_numbers(student))
