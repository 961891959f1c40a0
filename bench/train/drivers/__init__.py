"""One program for each trainer: it takes a task, trains as its trainer does at its best, and writes what it measured.

Each runs in the environment of its trainer, so it imports nothing of this project but `task` and `meter`.
"""
