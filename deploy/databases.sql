-- Beside Dagster's own: the ledger (population.yaml: ledger:
-- postgresql+psycopg://tabimage@postgres/ledger) and MLflow's.
CREATE DATABASE ledger;
CREATE DATABASE mlflow;
