"""A teacher's answers to lab_2_thresholds; the tests put them into the notebook."""

pods = -(-3 * 90 // 50)
pods_later = 4
decisions = 3
first_decision_s = 15 / 2 + 15
most_changes = "a"
settings = {"min_replicas": 2}
student = "Ada Lovelace"
own_pods = (lambda own: lesson.hpa_wants(own["pods"], own["utilisation_percent"], own["target_percent"]))(
    lesson.own_numbers(student)
)
own_calm_percent = (lambda own: own["target_percent"] * 1.1)(lesson.own_numbers(student))
own_decisions = (
    lambda own: next(
        n
        for n in range(50)
        if __import__("functools").reduce(
            lambda pods, _: lesson.hpa_wants(pods, 100, own["target_percent"]), range(n), 1
        )
        >= own["needed"]
    )
)(lesson.own_numbers(student))
