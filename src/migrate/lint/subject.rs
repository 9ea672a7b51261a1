//! Which tables a statement is about, and which of them the same migrations make.

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode as _};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

/// The tables, views and indexes that `file` makes, by their last name, as Postgres folds it.
pub(super) fn tables_made(file: &SourceFile) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for statement in file.stmts() {
        let kind = match &statement {
            ast::Stmt::CreateTable(_)
            | ast::Stmt::CreateTableAs(_)
            | ast::Stmt::CreateForeignTable(_) => SyntaxKind::TABLE_NAME,
            ast::Stmt::CreateMaterializedView(_) | ast::Stmt::CreateView(_) => SyntaxKind::VIEW,
            ast::Stmt::CreateIndex(_) => SyntaxKind::INDEX,
            _ => continue,
        };
        let name = statement.syntax().descendants().find(|node| node.kind() == kind);
        made.extend(name.map(|name| last_name(&name)));
    }
    made
}

/// Whether the statement is about tables of `new` alone: no other session can be using them.
pub(super) fn is_new(statement: &ast::Stmt, new: &BTreeSet<String>) -> bool {
    let mut subjects = statement
        .syntax()
        .descendants()
        .filter(|node| {
            matches!(
                node.kind(),
                SyntaxKind::TABLE_NAME_REF
                    | SyntaxKind::RELATION_NAME_REF
                    | SyntaxKind::VIEW_REF
                    | SyntaxKind::INDEX_REF
            )
        })
        .map(|node| last_name(&node));
    let names_several = matches!(
        statement,
        ast::Stmt::DropTable(_)
            | ast::Stmt::Truncate(_)
            | ast::Stmt::Lock(_)
            | ast::Stmt::DropView(_)
    );
    match subjects.next() {
        Some(first) if names_several => {
            new.contains(&first) && subjects.all(|name| new.contains(&name))
        }
        Some(first) => new.contains(&first),
        None => false,
    }
}

/// `schema."Name"` -> `Name`; `schema.NAME` -> `name`.
fn last_name(path: &SyntaxNode) -> String {
    let text: String = path
        .descendants_with_tokens()
        .filter_map(squawk_syntax::SyntaxElement::into_token)
        .filter(|token| !token.kind().is_trivia())
        .map(|token| token.text().to_owned())
        .collect();
    let mut name = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => name.clear(),
            _ if quoted => name.push(c),
            _ => name.extend(c.to_lowercase()),
        }
    }
    name
}
