//! Hazards that the borrowed rules do not know.

use squawk_syntax::ast::{self, AlterTableAction, AstNode as _, Constraint};
use squawk_syntax::{SyntaxElement, SyntaxKind, SyntaxNode};

/// Reports what `statement` does, by place and rule.
pub(super) fn check(
    statement: &ast::Stmt,
    transactional: bool,
    report: &mut dyn FnMut(usize, &'static str),
) {
    let mut say = |node: &SyntaxNode, rule| report(start(node), rule);
    if transactional && wants_no_transaction(statement) {
        say(statement.syntax(), "concurrently-in-transaction");
    }
    let rule = match statement {
        ast::Stmt::AlterTable(table) => {
            for action in table.actions() {
                if let Some(rule) = of_action(&action) {
                    say(action.syntax(), rule);
                }
            }
            None
        }
        ast::Stmt::Cluster(_) => Some("rewriting-table"),
        ast::Stmt::Vacuum(vacuum) if vacuum.is_full() => Some("rewriting-table"),
        ast::Stmt::Lock(_) => Some("locking-table"),
        ast::Stmt::Refresh(refresh) if refresh.concurrently_token().is_none() => {
            Some("blocking-refresh")
        }
        ast::Stmt::Truncate(_) => Some("truncating"),
        ast::Stmt::Update(update) if update.where_clause_or_current_of().is_none() => {
            Some("unbounded-write")
        }
        ast::Stmt::Delete(delete) if delete.where_clause_or_current_of().is_none() => {
            Some("unbounded-write")
        }
        _ => None,
    };
    if let Some(rule) = rule {
        say(statement.syntax(), rule);
    }
}

fn of_action(action: &AlterTableAction) -> Option<&'static str> {
    match action {
        AlterTableAction::SetLogged(_)
        | AlterTableAction::SetUnlogged(_)
        | AlterTableAction::SetAccessMethod(_)
        | AlterTableAction::SetTablespace(_) => Some("rewriting-table"),
        AlterTableAction::AttachPartition(_) => Some("attaching-partition"),
        AlterTableAction::AddConstraint(added) => match added.constraint()? {
            Constraint::ExcludeConstraint(_) => Some("adding-exclusion-constraint"),
            _ => None,
        },
        AlterTableAction::AddColumn(column) => of_column(column),
        _ => None,
    }
}

fn of_column(column: &ast::AddColumn) -> Option<&'static str> {
    let type_name = column.ty().map(|ty| ty.syntax().to_string().to_lowercase());
    let is_serial = type_name.is_some_and(|name| {
        ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"]
            .contains(&name.trim())
    });
    let is_identity = column.constraints().any(|constraint| {
        matches!(&constraint, Constraint::GeneratedConstraint(generated)
            if has_token(generated.syntax(), SyntaxKind::IDENTITY_KW))
    });
    if is_serial || is_identity {
        return Some("adding-identity-column");
    }
    column
        .constraints()
        .any(|constraint| matches!(constraint, Constraint::CheckConstraint(_)))
        .then_some("adding-check-with-column")
}

/// Whether the statement cannot be written so that it bears being run twice.
pub(super) fn has_no_repeatable_form(statement: &ast::Stmt) -> bool {
    matches!(statement, ast::Stmt::AlterTable(table)
        if table.actions().all(|action| matches!(action, AlterTableAction::DetachPartition(_))))
}

/// Whether Postgres refuses it inside a transaction.
fn wants_no_transaction(statement: &ast::Stmt) -> bool {
    match statement {
        ast::Stmt::CreateIndex(_)
        | ast::Stmt::DropIndex(_)
        | ast::Stmt::Reindex(_)
        | ast::Stmt::AlterTable(_) => has_token(statement.syntax(), SyntaxKind::CONCURRENTLY_KW),
        ast::Stmt::Vacuum(_)
        | ast::Stmt::AlterSystem(_)
        | ast::Stmt::CreateDatabase(_)
        | ast::Stmt::DropDatabase(_)
        | ast::Stmt::CreateTablespace(_)
        | ast::Stmt::DropTablespace(_) => true,
        _ => false,
    }
}

fn has_token(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    node.descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .any(|token| token.kind() == kind)
}

/// Where the node's own text begins, after blanks and comments.
fn start(node: &SyntaxNode) -> usize {
    let first = node
        .descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .find(|token| !token.kind().is_trivia());
    usize::from(first.map_or_else(|| node.text_range().start(), |token| token.text_range().start()))
}
