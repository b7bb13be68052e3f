"""Messages between roles: Celery over RabbitMQ. The only place that knows either.

A message names a task and nothing more: whoever gets it asks the database what it means, and whether it means anything.
So a broker in hostile hands can send us names, as often as it likes, and that is all it can do: whatever is not exactly
such a message is dropped with one line in the log, before Celery reads it. Nobody can inspect or stop a worker through
the broker, and nobody gets an answer.
"""
