-- Of the extensions named in $1: whether each is installed here, could be, and by this role.
SELECT wanted.name,
       e.extname IS NOT NULL AS installed,
       a.name IS NOT NULL AS available,
       (r.rolsuper OR (coalesce(v.trusted, false)
                       AND has_database_privilege(current_database(), 'CREATE'))) AS may_install
FROM unnest($1::text[]) AS wanted (name)
LEFT JOIN pg_catalog.pg_extension e ON e.extname = wanted.name
LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = wanted.name
LEFT JOIN pg_catalog.pg_available_extension_versions v
       ON v.name = a.name AND v.version = a.default_version
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
ORDER BY wanted.name
