"""A teacher's answers to lab_1_queues; the tests put them into the notebook."""

capacity_rps = 1 / 0.05
mean_s = 0.05 / (1 - 0.8)
growth = (1 - 0.8) / (1 - 0.95)
inside = 16 * 0.25
constant_mean_s = 0.05 + (0.25 - 0.05) / 2
ratio = 0.25 / (0.05 / (1 - 0.8**2))
closed_mean_s = 20 / (1 / 0.05) - 0.4
replicas = 5
student = "Ada Lovelace"
own_mean_s = (lambda own: own["service_s"] / (1 - own["load"]))(lesson.own_numbers(student))
own_inside = (lambda own: own["load"] / (1 - own["load"]))(lesson.own_numbers(student))
own_closed_s = (lambda own: own["clients"] * own["service_s"] - own["think_s"])(lesson.own_numbers(student))
