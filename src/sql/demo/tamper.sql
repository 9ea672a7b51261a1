UPDATE retrieval.query_cache SET answer = overlay(
    answer PLACING CASE substr(answer, 7, 1) WHEN '#' THEN '*' ELSE '#' END FROM 7 FOR 1)
WHERE cache_key = (SELECT min(cache_key) FROM retrieval.query_cache WHERE length(answer) > 20);
UPDATE observability.token_usage SET created_at = created_at + interval '1 hour'
WHERE id = (SELECT max(id) FROM observability.token_usage);
DELETE FROM workflow.run_records
WHERE id = (SELECT min(id) FROM workflow.run_records WHERE record_kind = 'step');
