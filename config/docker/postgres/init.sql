-- Device tokens, one table per app and platform. The worker deletes by token: without the index each batch reads the table.
CREATE TABLE game_apns (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id text NOT NULL,
    token text NOT NULL,
    region text NOT NULL DEFAULT '',
    locale text NOT NULL DEFAULT '',
    tz text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX game_apns_token ON game_apns (token);
CREATE TABLE game_gcm (LIKE game_apns INCLUDING ALL);
