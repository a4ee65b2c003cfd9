"""A teacher's part: right answers, usual mistakes, grading and packing. A wheel, and so a student's copy, lacks it."""
