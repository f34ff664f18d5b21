#!/usr/bin/env bash
# web, worker, relay and beat as one process: for one dyno or container. When one of them ends, the others end too, and
# the supervisor starts them all again. SIGTERM is passed on once; the worker gets the time that its tasks need.
trap stopped=yes TERM INT

gunicorn -c config/gunicorn.py config.wsgi &
REMAP_SIGTERM=SIGQUIT celery -A config worker -l INFO --concurrency 2 &
python manage.py relay &
celery -A config beat -l INFO &

[ "$stopped" ] || wait -n
trap '' TERM INT
kill $(jobs -pr)
wait
[ "$stopped" ]
