-- $1 run, $2 what it was compared with, $3 verdict, $4 totals that are new or changed.
UPDATE toolkit.parity_run SET against = $2, verdict = $3, totals = totals || $4::jsonb
WHERE run_id = $1::uuid
