-- What every session is set to, whatever the role or the database would have it be.
-- $1 statement_timeout in ms, $2 lock_timeout in ms, both as text.
SELECT pg_catalog.set_config('application_name', 'toolkit', false),
       pg_catalog.set_config('client_encoding', 'UTF8', false),
       pg_catalog.set_config('TimeZone', 'UTC', false),
       pg_catalog.set_config('DateStyle', 'ISO, MDY', false),
       pg_catalog.set_config('IntervalStyle', 'postgres', false),
       pg_catalog.set_config('bytea_output', 'hex', false),
       pg_catalog.set_config('extra_float_digits', '1', false),
       pg_catalog.set_config('standard_conforming_strings', 'on', false),
       pg_catalog.set_config('search_path', 'public, pg_temp', false),
       pg_catalog.set_config('row_security', 'off', false),
       pg_catalog.set_config('statement_timeout', $1, false),
       pg_catalog.set_config('lock_timeout', $2, false);
