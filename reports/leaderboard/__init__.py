"""A static site of records from many people: each verified, merged by configuration, compared like with like.

``build.leaderboard`` is the door.
"""
