-- Accounts, and what the backend must keep of sessions before it runs on several machines.

CREATE TABLE users.users (
    id            uuid CONSTRAINT users_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    email         text NOT NULL CONSTRAINT users_email_key UNIQUE,
    username      text CONSTRAINT users_username_key UNIQUE,
    password_hash text NOT NULL DEFAULT '!',
    role          text NOT NULL DEFAULT 'user',
    settings      jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE users.users IS 'Accounts.';
COMMENT ON COLUMN users.users.password_hash IS
    'The backend''s hash; ! matches no password, for a user that an import knows by email only.';

-- The document names one column by two names.
CREATE VIEW users.user_profiles AS
    SELECT id, email, username, role, settings, settings AS profile_settings, created_at, updated_at
      FROM users.users;

CREATE TABLE auth.sessions (
    id         uuid CONSTRAINT sessions_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL CONSTRAINT sessions_user_id_fkey
               REFERENCES users.users (id) ON DELETE CASCADE,
    token_hash text NOT NULL CONSTRAINT sessions_token_hash_key UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    user_agent text,
    ip         inet
);
CREATE INDEX idx_sessions_user_id ON auth.sessions (user_id);
CREATE INDEX idx_sessions_expires_at ON auth.sessions (expires_at);
COMMENT ON TABLE auth.sessions IS 'Sessions, known by the hash of their token.';

CREATE TABLE auth.tokens (
    id         uuid CONSTRAINT tokens_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL CONSTRAINT tokens_user_id_fkey
               REFERENCES users.users (id) ON DELETE CASCADE,
    kind       text NOT NULL,
    token_hash text NOT NULL CONSTRAINT tokens_token_hash_key UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX idx_tokens_user_id ON auth.tokens (user_id);
COMMENT ON TABLE auth.tokens IS 'Single-use tokens: resets, invitations, confirmations.';

CREATE TABLE auth.login_events (
    id         uuid CONSTRAINT login_events_pkey PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid CONSTRAINT login_events_user_id_fkey
               REFERENCES users.users (id) ON DELETE SET NULL,
    event_time timestamptz NOT NULL DEFAULT now(),
    outcome    text NOT NULL,
    ip         inet,
    user_agent text
);
CREATE INDEX idx_login_events_user_time ON auth.login_events (user_id, event_time DESC);
COMMENT ON TABLE auth.login_events IS 'Attempts to log in; they outlive the account.';
