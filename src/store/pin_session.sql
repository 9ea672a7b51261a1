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
       pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
       pg_catalog.set_config('transform_null_equals', 'off', false),
       pg_catalog.set_config('statement_timeout', $1, false),
       pg_catalog.set_config('lock_timeout', $2, false),
       -- Limits that would end a session which rightly waits, where this version knows them; and
       -- notice of a client that was killed, without which its locks outlive it by a statement.
       (SELECT pg_catalog.count(pg_catalog.set_config(s.name, v.value, false))
        FROM pg_catalog.pg_settings s
        JOIN (VALUES ('idle_in_transaction_session_timeout', '0'),
                     ('idle_session_timeout', '0'),
                     ('transaction_timeout', '0'),
                     ('client_connection_check_interval', '1000')) AS v(name, value)
             ON s.name OPERATOR(pg_catalog.=) v.name
        WHERE v.value OPERATOR(pg_catalog.=) '0'
           OR pg_catalog.strpos(pg_catalog.version(), 'linux') OPERATOR(pg_catalog.>) 0);
