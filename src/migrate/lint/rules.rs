//! The rules: what each means for a live table, and the safe form.

use serde::Serialize;
use squawk_linter::Rule;

/// What a hazard means for the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It stops an application, breaks it, or cannot run at all.
    Refused,
    /// It may; a person has to judge.
    Warning,
}

use Severity::{Refused, Warning};

/// A rule as this tool words it.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// Whether a table that no other session can use yet is spared.
    pub(super) spares_new_tables: bool,
    /// Whether it only matters in files that run without a transaction.
    pub(super) only_outside_transactions: bool,
    pub(super) what: &'static str,
    pub(super) safe: &'static str,
    /// The parser's library finds it.
    borrowed: Option<Rule>,
}

const fn rule(
    name: &'static str,
    severity: Severity,
    borrowed: Option<Rule>,
    what: &'static str,
    safe: &'static str,
) -> Known {
    Known {
        name,
        severity,
        spares_new_tables: true,
        only_outside_transactions: false,
        what,
        safe,
        borrowed,
    }
}

const fn everywhere(known: Known) -> Known {
    Known { spares_new_tables: false, ..known }
}

const fn outside_transactions(known: Known) -> Known {
    Known { spares_new_tables: false, only_outside_transactions: true, ..known }
}

/// Every rule there is.
const RULES: &[Known] = &[
    rule(
        "require-concurrent-index-creation",
        Refused,
        Some(Rule::RequireConcurrentIndexCreation),
        "writes to the table wait until the index is built",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS, in a file with `-- toolkit: no-transaction` on line 1",
    ),
    rule(
        "require-concurrent-index-deletion",
        Refused,
        Some(Rule::RequireConcurrentIndexDeletion),
        "takes ACCESS EXCLUSIVE on the table, behind which every query queues",
        "DROP INDEX CONCURRENTLY IF EXISTS, in a file with `-- toolkit: no-transaction` on line 1",
    ),
    rule(
        "require-concurrent-reindex",
        Refused,
        Some(Rule::RequireConcurrentReindex),
        "writes to the table, and reads through the index, wait until it is rebuilt",
        "REINDEX ... CONCURRENTLY, in a file with `-- toolkit: no-transaction` on line 1",
    ),
    rule(
        "require-concurrent-partition-detach",
        Refused,
        Some(Rule::RequireConcurrentPartitionDetach),
        "takes ACCESS EXCLUSIVE on the partitioned table",
        "DETACH PARTITION ... CONCURRENTLY, in a file with `-- toolkit: no-transaction` on line 1",
    ),
    everywhere(rule(
        "concurrently-in-transaction",
        Refused,
        None,
        "Postgres refuses it inside a transaction, and this file is one",
        "a file of its own with `-- toolkit: no-transaction` on line 1",
    )),
    rule(
        "constraint-missing-not-valid",
        Refused,
        Some(Rule::ConstraintMissingNotValid),
        "the whole table is scanned to check the constraint, under a lock that stops writes",
        "ADD CONSTRAINT ... NOT VALID in one migration, VALIDATE CONSTRAINT in a later one; a key by \
         USING INDEX",
    ),
    rule(
        "adding-foreign-key-constraint",
        Refused,
        Some(Rule::AddingForeignKeyConstraint),
        "both tables stop taking writes while every row is looked up in the other",
        "ADD CONSTRAINT ... FOREIGN KEY ... NOT VALID in one migration, VALIDATE CONSTRAINT in a \
         later one",
    ),
    rule(
        "disallowed-unique-constraint",
        Refused,
        Some(Rule::DisallowedUniqueConstraint),
        "takes ACCESS EXCLUSIVE on the table while its index is built",
        "CREATE UNIQUE INDEX CONCURRENTLY in a file without transaction, then ADD CONSTRAINT ... \
         UNIQUE USING INDEX",
    ),
    rule(
        "adding-serial-primary-key-field",
        Refused,
        Some(Rule::AddingSerialPrimaryKeyField),
        "takes ACCESS EXCLUSIVE on the table while its index is built, or every row is rewritten",
        "CREATE UNIQUE INDEX CONCURRENTLY in a file without transaction, then ADD CONSTRAINT ... \
         PRIMARY KEY USING INDEX",
    ),
    rule(
        "adding-exclusion-constraint",
        Refused,
        None,
        "takes ACCESS EXCLUSIVE on the table while its index is built; there is no concurrent form",
        "a new table with the constraint, filled in batches; or a trigger that checks new rows",
    ),
    rule(
        "adding-check-with-column",
        Refused,
        None,
        "a CHECK that comes with the column scans the whole table under ACCESS EXCLUSIVE",
        "ADD COLUMN alone; then ADD CONSTRAINT ... CHECK ... NOT VALID; then VALIDATE CONSTRAINT in a \
         later migration",
    ),
    rule(
        "adding-required-field",
        Refused,
        Some(Rule::AddingRequiredField),
        "fails where the table has rows, and the application's INSERTs without the column fail",
        "ADD COLUMN with a constant DEFAULT, or nullable, filled in batches, then a validated check",
    ),
    rule(
        "adding-not-nullable-field",
        Refused,
        Some(Rule::AddingNotNullableField),
        "SET NOT NULL scans the whole table under ACCESS EXCLUSIVE",
        "ADD CONSTRAINT ... CHECK (column IS NOT NULL) NOT VALID, in a later migration VALIDATE \
         CONSTRAINT and then SET NOT NULL, which then scans nothing",
    ),
    rule(
        "adding-field-with-default",
        Refused,
        Some(Rule::AddingFieldWithDefault),
        "a volatile default or a generated column rewrites the table under ACCESS EXCLUSIVE",
        "ADD COLUMN without default, SET DEFAULT for new rows, old rows filled in batches",
    ),
    rule(
        "adding-identity-column",
        Refused,
        None,
        "a serial or identity column rewrites the table under ACCESS EXCLUSIVE",
        "ADD COLUMN bigint, SET DEFAULT nextval(...) for new rows, old rows numbered in batches",
    ),
    rule(
        "changing-column-type",
        Refused,
        Some(Rule::ChangingColumnType),
        "rewrites the table and its indexes under ACCESS EXCLUSIVE, and may break readers",
        "a new column of the new type, written by a trigger, filled in batches, verified; then the \
         old one dropped in a later release",
    ),
    rule(
        "rewriting-table",
        Refused,
        None,
        "rewrites the table under ACCESS EXCLUSIVE",
        "a new table made so, filled in batches, and swapped; or a maintenance window",
    ),
    rule(
        "locking-table",
        Refused,
        None,
        "holds the lock to the end of the transaction, and queries queue behind it",
        "leave it to the statements; `toolkit migrate up` sets lock_timeout and tries again",
    ),
    rule(
        "blocking-refresh",
        Refused,
        None,
        "readers of the materialized view wait until it is filled again",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
    ),
    rule(
        "renaming-column",
        Refused,
        Some(Rule::RenamingColumn),
        "running versions of the application still ask for the old name",
        "a new column kept equal by a trigger, or a view with both names; drop the old one later",
    ),
    rule(
        "renaming-table",
        Refused,
        Some(Rule::RenamingTable),
        "running versions of the application still ask for the old name",
        "rename and, in the same transaction, make a view of the old name",
    ),
    rule(
        "ban-drop-column",
        Refused,
        Some(Rule::BanDropColumn),
        "the data is gone, and running versions of the application may still ask for it",
        "release the application without it first; then allow this statement with the reason",
    ),
    rule(
        "ban-drop-table",
        Refused,
        Some(Rule::BanDropTable),
        "the data is gone, and running versions of the application may still ask for it",
        "release the application without it first; then allow this statement with the reason",
    ),
    everywhere(rule(
        "ban-drop-database",
        Refused,
        Some(Rule::BanDropDatabase),
        "everything is gone",
        "not in a migration",
    )),
    everywhere(rule(
        "ban-drop-schema",
        Refused,
        Some(Rule::BanDropSchema),
        "every table in it is gone",
        "drop its tables one by one, each with its reason",
    )),
    rule(
        "ban-truncate-cascade",
        Refused,
        Some(Rule::BanTruncateCascade),
        "empties every table that refers to this one, too",
        "name the tables to be emptied",
    ),
    rule(
        "truncating",
        Warning,
        None,
        "takes ACCESS EXCLUSIVE, and the rows are gone for sessions with an older snapshot too",
        "DELETE in batches, or allow this statement with the reason",
    ),
    rule(
        "unbounded-write",
        Warning,
        None,
        "changes every row in one transaction: locks, dead rows and lag all at once",
        "change the rows in batches by key, outside the migration",
    ),
    rule(
        "attaching-partition",
        Warning,
        None,
        "the new partition is scanned under ACCESS EXCLUSIVE unless a validated check says its bounds",
        "first ADD CONSTRAINT ... CHECK of the same bounds NOT VALID and VALIDATE it, then attach",
    ),
    everywhere(rule(
        "transaction-nesting",
        Refused,
        Some(Rule::TransactionNesting),
        "each migration already is one transaction",
        "leave BEGIN and COMMIT out",
    )),
    outside_transactions(rule(
        "not-repeatable",
        Warning,
        Some(Rule::PreferRobustStmts),
        "without a transaction, a run that is killed may run this statement twice",
        "IF NOT EXISTS or IF EXISTS",
    )),
    everywhere(rule(
        "identifier-too-long",
        Warning,
        Some(Rule::IdentifierTooLong),
        "Postgres cuts names after 63 bytes, silently",
        "a shorter name",
    )),
    rule(
        "ban-drop-not-null",
        Warning,
        Some(Rule::BanDropNotNull),
        "readers that count on a value will meet NULL",
        "release readers that bear NULL first",
    ),
    rule(
        "ban-drop-constraint",
        Warning,
        Some(Rule::BanDropConstraint),
        "what the constraint kept out can come in from now on",
        "allow this statement with the reason",
    ),
    everywhere(rule(
        "ban-drop-view",
        Warning,
        Some(Rule::BanDropView),
        "running versions of the application may still ask for it",
        "CREATE OR REPLACE VIEW, or allow this statement with the reason",
    )),
    everywhere(rule(
        "ban-drop-type",
        Warning,
        Some(Rule::BanDropType),
        "running versions of the application may still use it",
        "allow this statement with the reason",
    )),
    everywhere(rule(
        "ban-alter-domain-with-add-constraint",
        Refused,
        Some(Rule::BanAlterDomainWithAddConstraint),
        "every table that uses the domain is scanned under a lock",
        "ADD CONSTRAINT ... NOT VALID, then VALIDATE CONSTRAINT in a later migration",
    )),
    rule(
        "ban-set-schema",
        Refused,
        Some(Rule::BanSetSchema),
        "running versions of the application still ask for it in the old schema",
        "a view in the old schema, made in the same transaction; then allow this statement",
    ),
];

/// The names of all rules, as they are written in comments.
pub fn rule_names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.name)
}

pub(super) fn of(name: &str) -> Option<&'static Known> {
    RULES.iter().find(|rule| rule.name == name)
}

pub(super) fn borrowed() -> impl Iterator<Item = Rule> {
    RULES.iter().filter_map(|rule| rule.borrowed)
}

pub(super) fn name_of(code: Rule) -> Option<&'static str> {
    RULES.iter().find(|rule| rule.borrowed == Some(code)).map(|rule| rule.name)
}
