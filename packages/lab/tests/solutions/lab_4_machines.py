"""A teacher's answers to lab_4_machines; the tests put them into the notebook."""

pods_per_machine = 2
machines = 2
longest = "machine"
later_s = 60 - 10
saved_s = lesson.facts()["boot_s"] + lesson.facts()["joins_s"]
settings = {"min_replicas": 2}
