//! What a list of a user holds: the items of a static one, the matching media of a smart one.

use sqlx::{PgConnection, Row as _};

use crate::error::{Error, ErrorKind, Result};
use crate::media::filter;
use crate::query::{self, Answer, Limits};

const STATIC: &str = "SELECT i.position, m.external_id, m.media_type, m.title, m.release_date, m.id \
    FROM interaction.list_items AS i JOIN media.media AS m ON m.id = i.media_id \
    WHERE i.list_id = $1::text::uuid ORDER BY i.position NULLS LAST, m.title, m.id";

/// The media of a list: of a smart one those that its definition matches, in the order of their
/// titles.
///
/// # Errors
/// `Usage` where there is no such list, or its definition is none, which the schema's check lets
/// nobody write; `TimedOut`.
pub async fn evaluate(
    connection: &mut PgConnection,
    list: &str,
    question: &'static str,
    limits: Limits,
) -> Result<Answer> {
    let found = sqlx::query(
        "SELECT list_type, user_id::text, filter_definition::text FROM interaction.user_lists \
         WHERE id = $1::text::uuid",
    )
    .bind(list)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = found else {
        return Err(Error::new(ErrorKind::Usage, format!("there is no list {list}"))
            .advice("`toolkit query media user-lists EMAIL` shows the ids of a user's lists"));
    };
    let kind: String = row.try_get(0)?;
    let (statement, values) = if kind == "smart" {
        let definition: Option<String> = row.try_get(2)?;
        matching(list, row.try_get(1)?, definition.as_deref().unwrap_or("null"))?
    } else {
        (STATIC.to_owned(), vec![Some(list.to_owned())])
    };
    query::run(connection, question, &statement, &values, limits).await
}

/// The statement that finds what a definition matches, and its values.
fn matching(list: &str, owner: String, definition: &str) -> Result<(String, Vec<Option<String>>)> {
    let invalid = |what: String| {
        Error::new(ErrorKind::Usage, format!("the definition of list {list}: {what}"))
            .advice("correct its filter_definition")
    };
    let json = crate::json::parse(definition.as_bytes()).map_err(|e| invalid(e.to_string()))?;
    let clause = filter::parse(&json).map_err(invalid)?.clause(2);
    let statement = format!(
        "SELECT m.external_id, m.media_type, m.title, m.release_date, tracked.status, \
         tracked.rating, m.id FROM media.media AS m LEFT JOIN interaction.user_media AS tracked \
         ON tracked.media_id = m.id AND tracked.user_id = $1::text::uuid WHERE {} \
         ORDER BY m.title, m.id",
        clause.sql
    );
    let mut values = vec![Some(owner)];
    values.extend(clause.values.into_iter().map(Some));
    Ok((statement, values))
}
