//! User triggers of the targets: said, and switched off only where that is asked for.

use std::process::Stdio;
use std::time::Duration;

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

const TABLES: &str = "CREATE TABLE public.parent (id bigint PRIMARY KEY);
    CREATE TABLE public.t (id bigint, body text, parent bigint, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (0) TO (5000);
    CREATE TABLE public.t_2 PARTITION OF public.t FOR VALUES FROM (5000) TO (100000);
    ALTER TABLE public.t ADD FOREIGN KEY (parent) REFERENCES public.parent DEFERRABLE INITIALLY DEFERRED;
    INSERT INTO public.parent VALUES (1);
    CREATE TABLE public.fired (what text);
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NEW; END';
    CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.body := upper(NEW.body); RETURN NEW; END';
    CREATE TRIGGER cloned AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER statement AFTER INSERT ON public.t EXECUTE FUNCTION public.note();
    CREATE TRIGGER own AFTER INSERT ON public.t_1 FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER shouting BEFORE INSERT OR UPDATE ON public.t FOR EACH ROW EXECUTE FUNCTION public.shout();
    CREATE TRIGGER always AFTER UPDATE ON public.t_2 FOR EACH ROW EXECUTE FUNCTION public.note();
    CREATE TRIGGER off AFTER INSERT ON public.t_1 FOR EACH ROW EXECUTE FUNCTION public.note();
    ALTER TABLE public.t_1 DISABLE TRIGGER off;
    ALTER TABLE public.t_2 ENABLE ALWAYS TRIGGER always;";

const STREAM: &str = "[[stream]]\nname = \"items\"\ntarget = \"public.t\"\nkey = [\"id\"]\n\
    source = { sqlite = \"app.sqlite\", table = \"t\" }\n";

const ROWS: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, parent INTEGER);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
    INSERT INTO t SELECT i, 'b' || i, 1 FROM n;";

const STATES: &str = "SELECT string_agg(tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text, ', ' \
    ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger WHERE NOT tgisinternal";

#[tokio::test]
async fn triggers_fire_by_default_and_plan_check_report_and_parity_say_so() {
    let scene = Move::own(TABLES, STREAM, ROWS).await;
    for command in ["pack check", "backfill --dry-run", "backfill"] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.extend(["--pack", &scene.pack, "--source", scene.source.to_str().unwrap()]);
        let output = scene.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        for name in ["cloned of public.t_1", "statement of public.t ", "own of public.t_1"] {
            assert!(text.contains(&format!("trigger {name}")), "{command}: {name}: {text}");
        }
        assert!(text.contains("shouting of public.t_2 fires on rows written, and may change"));
        assert!(!text.contains("trigger off"), "{text}");
    }
    assert_eq!(scene.count("fired WHERE what = 'cloned'").await, 9000);
    assert_eq!(scene.count("t WHERE body LIKE 'B%'").await, 9000);
    let parity = scene.verify();
    assert_eq!(parity.status.code(), Some(1));
    assert!(stdout(&parity).contains("hint: trigger shouting of public.t"), "{}", stdout(&parity));
}

#[tokio::test]
async fn disabled_they_do_not_fire_and_are_on_again_after_success_failure_and_kill() {
    let scene = Move::own(TABLES, STREAM, ROWS).await;
    let before = scene.text(STATES).await;
    let arguments = ["--chunk-records", "100", "--disable-triggers"];
    for _ in 0..3 {
        let mut child = scene
            .backfill_command(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let done = scene.count("toolkit.chunk WHERE status = 'done'").await;
        while scene.count("toolkit.chunk WHERE status = 'done'").await <= done + 2 {
            assert_eq!(scene.text(STATES).await, before, "somebody else saw a trigger off");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scene.text(STATES).await, before);
    }
    let report = scene.backfill(0, &arguments);
    assert_eq!(report.six("items"), [9000, 0, 0, 0, 0, 0]);
    assert_eq!(report.0["triggers_disabled"], true);
    assert_eq!(scene.count("fired").await, 0);
    scene.is_clean();
    // An orphan is refused all the same, though the constraint is deferred, and updates are silent.
    scene
        .sqlite()
        .execute_batch(
            "UPDATE t SET body = 'c' WHERE id > 8990; UPDATE t SET parent = 2 WHERE id = 1",
        )
        .unwrap();
    let report = scene.backfill(1, &arguments);
    assert_eq!(report.six("items"), [0, 10, 8989, 0, 0, 1]);
    assert_eq!(scene.count("fired").await, 0);
    // A run that fails.
    scene
        .execute("ALTER TABLE toolkit.chunk ADD CONSTRAINT no CHECK (rows_read IS NULL) NOT VALID")
        .await;
    scene.backfill(2, &arguments);
    assert_eq!(scene.text(STATES).await, before);
}
