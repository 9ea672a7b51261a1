-- What one session can see of its server, as one JSON object.
SELECT jsonb_build_object(
    'version', current_setting('server_version'),
    'encoding', current_setting('server_encoding'),
    'collation', (SELECT datcollate FROM pg_catalog.pg_database WHERE datname = current_database()),
    'database', current_database(),
    'role', current_user,
    'superuser', (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
    'may_create_schema', has_database_privilege(current_database(), 'CREATE'),
    'may_create_database', (SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles
                            WHERE rolname = current_user),
    'in_recovery', pg_is_in_recovery(),
    'read_only', current_setting('default_transaction_read_only') = 'on',
    'fsync', current_setting('fsync') = 'on',
    'full_page_writes', current_setting('full_page_writes') = 'on',
    'synchronous_commit', current_setting('synchronous_commit'),
    'lz4', (SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings
            WHERE name = 'default_toast_compression'),
    'max_connections', current_setting('max_connections')::int
                       - current_setting('superuser_reserved_connections')::int,
    'connections', (SELECT count(*) FROM pg_catalog.pg_stat_activity
                    WHERE backend_type = 'client backend'),
    'connection_limit', (SELECT nullif(least(nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1)), -1)
                         FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
                         WHERE r.rolname = current_user AND d.datname = current_database()),
    'oldest_transaction_s', (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::bigint
                             FROM pg_catalog.pg_stat_activity
                             WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL
                               AND backend_type = 'client backend'),
    'prepared_transactions', (SELECT count(*) FROM pg_catalog.pg_prepared_xacts),
    'database_bytes', CASE WHEN has_database_privilege(current_database(), 'CONNECT')
                           THEN pg_database_size(current_database()) END,
    'ssl', (SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()),
    'ssl_version', (SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()),
    'server_port', inet_server_port(),
    'data_directory', CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'MEMBER')
                           THEN current_setting('data_directory', true) END,
    'epoch_us', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
)::text
