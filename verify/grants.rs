//! `toolkit grants`: what is given is enough, and nothing else is.

use std::process::Output;

use sqlx::{Connection as _, Executor as _, PgConnection};
use toolkit::store::sql;

use crate::support::{TestDatabase, as_role, stderr, stdout, toolkit};

const MIGRATION: &str = "
CREATE SCHEMA own;
CREATE TYPE own.mood AS ENUM ('glad', 'sad');
CREATE SEQUENCE own.codes;
CREATE TABLE own.a (id serial PRIMARY KEY, mood own.mood DEFAULT 'glad',
    code text DEFAULT 'C' || nextval('own.codes'));
CREATE TABLE own.b (id bigint GENERATED ALWAYS AS IDENTITY, v text, day date NOT NULL)
    PARTITION BY RANGE (day);
CREATE TABLE own.b_all PARTITION OF own.b DEFAULT;
CREATE TABLE public.shared_of_pack (id serial PRIMARY KEY, v text);
CREATE VIEW own.glad AS SELECT id FROM own.a WHERE mood = 'glad';
CREATE FUNCTION own.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION own.fill() RETURNS void LANGUAGE sql AS 'INSERT INTO own.a DEFAULT VALUES';
REVOKE ALL ON FUNCTION own.twice(int), own.fill() FROM PUBLIC;
REVOKE ALL ON TYPE own.mood FROM PUBLIC;
";

const PACK: &str = "[pack]\nname = \"own\"\nversion = 1\n\n[[stream]]\nname = \"a\"\n\
    source = { sqlite = \"app.sqlite\", table = \"a\" }\ntarget = \"own.a\"\nkey = [\"id\"]\n";

/// A migrated pack, a role that has nothing, and one more table in `public` that is not the pack's.
struct Place {
    database: TestDatabase,
    role: String,
}

impl Place {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let folder = database.folder().join("pack");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("pack.toml"), PACK).unwrap();
        std::fs::write(folder.join("V1__own.sql"), MIGRATION).unwrap();
        let mut conn = PgConnection::connect(database.url()).await.unwrap();
        let role: String = sqlx::query_scalar("SELECT 'app \"q\" ' || current_database()")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        let role = role.chars().take(60).collect::<String>();
        let this = Self { database, role };
        let up = ["migrate", "up", "--pack", "own", "--dir"];
        let output = this.run(&[&up[..], &[folder.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        this.owner(&format!(
            "CREATE ROLE {} LOGIN PASSWORD 'pw'; CREATE TABLE public.others (id int); \
             REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
            this.quoted(),
            this.name().await
        ))
        .await;
        this
    }

    async fn name(&self) -> String {
        let mut conn = PgConnection::connect(self.database.url()).await.unwrap();
        sqlx::query_scalar("SELECT quote_ident(current_database())")
            .fetch_one(&mut conn)
            .await
            .unwrap()
    }

    fn quoted(&self) -> String {
        toolkit::store::quote_ident(&self.role)
    }

    async fn owner(&self, statements: &str) {
        let mut conn = PgConnection::connect(self.database.url()).await.unwrap();
        let done = conn.execute(sql(statements.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// What the role is told; empty: it may.
    async fn as_role(&self, statement: &str) -> String {
        let escaped = self.role.replace(' ', "%20").replace('"', "%22");
        let url = as_role(self.database.url(), &escaped);
        let mut conn = match PgConnection::connect(&url).await {
            Ok(conn) => conn,
            Err(error) => return error.to_string(),
        };
        let done = conn.execute(sql(statement.to_owned())).await;
        done.err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        toolkit()
            .args(["--database-url", self.database.url()])
            .args(arguments)
            .current_dir(self.database.folder())
            .output()
            .unwrap()
    }

    fn grants(&self, code: i32, more: &[&str]) -> String {
        let arguments = [&["grants", "--pack", "pack", "--role", &self.role][..], more].concat();
        let output = self.run(&arguments);
        let shown = format!("{more:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{shown}");
        stdout(&output)
    }

    async fn end(self) {
        let quoted = self.quoted();
        self.owner(&format!("DROP OWNED BY {quoted}; DROP ROLE {quoted}")).await;
    }
}

/// What the application does.
const USES: &[&str] = &[
    "INSERT INTO own.a DEFAULT VALUES",
    "UPDATE own.a SET mood = 'sad'::own.mood",
    "SELECT * FROM own.glad",
    "SELECT own.twice(2)",
    "SELECT own.fill()",
    "INSERT INTO own.b (v, day) VALUES ('x', '2026-01-01')",
    "DELETE FROM own.b",
    "INSERT INTO public.shared_of_pack (v) VALUES ('x')",
    "SELECT reads, generation FROM toolkit.phase WHERE pack = 'own'",
    "SELECT toolkit.hold_route('own', 'postgres')",
    "SELECT max(id) FROM toolkit.reverse_log WHERE pack = 'own'",
    "SELECT coalesce(bool_and(position >= 1), true) FROM toolkit.capture_cursor \
     WHERE pack = 'own' AND installation::text = ''",
    "SELECT EXISTS (SELECT FROM toolkit.run WHERE pack = 'own' AND command = 'backfill' \
     AND status = 'completed')",
    "INSERT INTO toolkit.shadow_read (pack, name, hour, reads, mismatches) \
     VALUES ('own', 'n', date_trunc('hour', now()), 1, 0) ON CONFLICT (pack, name, hour) \
     DO UPDATE SET reads = shadow_read.reads + excluded.reads, \
     mismatches = shadow_read.mismatches + excluded.mismatches",
    "INSERT INTO toolkit.shadow_mismatch (pack, name, primary_digest, secondary_digest) \
     VALUES ('own', 'n', '', '')",
];

/// What it has no business with.
const OTHERS: &[&str] = &[
    "TRUNCATE own.a",
    "CREATE TABLE own.mine (id int)",
    "ALTER TABLE own.a ADD COLUMN mine int",
    "DROP TABLE own.a",
    "CREATE TRIGGER mine BEFORE INSERT ON own.a EXECUTE FUNCTION own.fill()",
    "SELECT * FROM public.others",
    "SELECT setval('own.codes', 1)",
    "UPDATE toolkit.phase SET reads = 'postgres'",
    "SELECT * FROM toolkit.reject",
    "SELECT * FROM toolkit.ledger",
    "SELECT old_key FROM toolkit.reverse_log",
    "INSERT INTO toolkit.reverse_log (pack, target, op) VALUES ('own', 'own.a', 'I')",
    "DELETE FROM toolkit.shadow_mismatch",
    "INSERT INTO toolkit.evidence (pack, kind) VALUES ('own', 'parity')",
];

#[tokio::test]
async fn a_role_with_the_grants_does_all_the_application_does_and_nothing_else() {
    let place = Place::new().await;
    assert!(place.as_role("SELECT 1").await.contains("permission denied for database"));
    let printed = place.grants(0, &[]);
    assert!(printed.contains("no changes are made"), "{printed}");
    assert!(!printed.contains("b_all") && !printed.contains("public.others"), "{printed}");
    assert!(
        place.grants(1, &["--check"]).contains("lacks SELECT, INSERT, UPDATE, DELETE on TABLE")
    );
    place.grants(0, &["--apply"]);
    assert!(place.grants(0, &["--check"]).contains("has all it needs"));
    for statement in USES {
        assert_eq!(place.as_role(statement).await, "", "{statement}");
    }
    for statement in OTHERS {
        let told = place.as_role(statement).await;
        assert!(
            told.contains("permission denied") || told.contains("must be owner"),
            "{statement}: {told}"
        );
    }
    // What a later migration makes is his too.
    place.owner("CREATE TABLE own.later (id serial PRIMARY KEY)").await;
    assert_eq!(place.as_role("INSERT INTO own.later DEFAULT VALUES").await, "");
    assert!(place.as_role("TRUNCATE own.later").await.contains("permission denied"));
    assert!(place.grants(0, &["--apply"]).contains("had all of it already"));
    place.owner(&format!("REVOKE UPDATE ON own.a FROM {}", place.quoted())).await;
    assert!(place.grants(1, &["--check"]).contains("lacks UPDATE on TABLE own.a"));
    place.end().await;
}

#[tokio::test]
async fn what_is_printed_is_a_script_that_gives_the_same() {
    let place = Place::new().await;
    let script = place.grants(0, &["--dry-run"]);
    place.owner(&script).await;
    assert!(place.grants(0, &["--check"]).contains("has all it needs"));
    place.end().await;
}

#[tokio::test]
async fn a_reading_role_reads_and_one_without_the_api_sees_nothing_of_the_toolkit() {
    let place = Place::new().await;
    place.grants(0, &["--read-only", "--without-api", "--apply"]);
    for statement in ["SELECT * FROM own.a", "SELECT * FROM own.glad", "SELECT own.twice(1)"] {
        assert_eq!(place.as_role(statement).await, "", "{statement}");
    }
    let refused = [
        "INSERT INTO own.a DEFAULT VALUES",
        "UPDATE own.b SET v = ''",
        "DELETE FROM own.a",
        "SELECT own.fill()",
        "SELECT nextval('own.codes')",
        "SELECT * FROM toolkit.phase",
    ];
    for statement in refused {
        let told = place.as_role(statement).await;
        assert!(told.contains("permission denied"), "{statement}: {told}");
    }
    place.owner("CREATE TABLE own.later (id serial PRIMARY KEY)").await;
    assert_eq!(place.as_role("SELECT * FROM own.later").await, "");
    assert!(place.as_role("DELETE FROM own.later").await.contains("permission denied"));
    assert!(place.grants(0, &["--read-only", "--without-api", "--check"]).contains("has all"));
    place.end().await;
}

#[tokio::test]
async fn a_role_that_is_not_there_is_named_and_one_who_may_not_give_gives_nothing() {
    let place = Place::new().await;
    let output = place.run(&["grants", "--pack", "pack", "--role", "nobody at all", "--apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("CREATE ROLE \"nobody at all\""), "{}", stderr(&output));
    // A role that reads may not hand its rights on.
    place.grants(0, &["--apply"]);
    let other = format!("other_{}", uuid::Uuid::new_v4().simple());
    place.owner(&format!("CREATE ROLE {other}")).await;
    let escaped = place.role.replace(' ', "%20").replace('"', "%22");
    let url = as_role(place.database.url(), &escaped);
    let output = toolkit()
        .args(["--database-url", &url, "grants", "--pack", "pack", "--role", &other, "--apply"])
        .current_dir(place.database.folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("nothing was given"), "{}", stderr(&output));
    place.owner(&format!("DROP ROLE {other}")).await;
    place.end().await;
}

#[tokio::test]
async fn every_built_in_pack_has_grants_that_are_complete_once_given() {
    let database = TestDatabase::create().await;
    let role = format!("app_{}", uuid::Uuid::new_v4().simple());
    let mut conn = PgConnection::connect(database.url()).await.unwrap();
    conn.execute(sql(format!("CREATE ROLE {role} LOGIN"))).await.unwrap();
    for pack in ["unified", "webtoon", "media", "anime"] {
        for arguments in [
            &["migrate", "up", "--pack", pack][..],
            &["grants", "--pack", pack, "--role", &role, "--apply"],
            &["grants", "--pack", pack, "--role", &role, "--check"],
        ] {
            let output = toolkit()
                .args(["--database-url", database.url()])
                .args(arguments)
                .output()
                .unwrap();
            let shown = format!("{arguments:?}: {}{}", stdout(&output), stderr(&output));
            assert_eq!(output.status.code(), Some(0), "{shown}");
        }
    }
    conn.execute(sql(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.unwrap();
}
