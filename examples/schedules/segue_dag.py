"""Every night, `segue run`. Put this file into Airflow's `dags` folder. Written for Airflow 3."""

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="segue",
    schedule="15 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,  # a run brings everything up to date: nights that were missed need none of their own
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=15)},
):
    BashOperator(
        task_id="run",
        cwd="/srv/myshop",
        # Airflow knows 0, 99 (skipped) and failed. 1 says that some contacts were refused and the others are right.
        bash_command="set -a; . ./.env; /srv/segue/bin/segue run; code=$?; [ $code -eq 1 ] || exit $code",
    )
