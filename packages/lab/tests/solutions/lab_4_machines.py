"""A teacher's answers to lab_4_machines; the tests put them into the notebook."""

pods_per_machine = 2
machines = 2
longest = "machine"
later_s = 60 - 10
saved_s = lesson.facts()["boot_s"] + lesson.facts()["joins_s"]
settings = {"min_replicas": 2}
student = "Ada Lovelace"
own_machines = (lambda own: -(-own["pods"] // ((own["machine_cores"] - own["reserved_cores"]) // own["pod_cores"])))(
    lesson.own_numbers(student)
)
own_ready_s = (lambda own: own["sync_period_s"] / 2 + own["boot_s"] + own["joins_s"] + own["pod_start_s"])(
    lesson.own_numbers(student)
)
own_with_room_s = (lambda own: own["sync_period_s"] / 2 + own["pod_start_s"])(lesson.own_numbers(student))
