#!/bin/sh
# Forks without end. `sleep` holds each process, so that the limit is met and stays met.
echo "ready"
n=0
while [ $n -lt 500 ]; do
    sleep 1000 &
    n=$((n + 1))
done
wait
