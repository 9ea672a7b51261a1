//! A database of a moment's own on the same server, dropped at the end.

use sqlx::{Connection as _, Executor as _};

use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Postgres, quote_ident, sql};

/// A fresh, empty database beside the one the settings name.
#[derive(Debug)]
pub(crate) struct ScratchDatabase {
    name: String,
}

impl ScratchDatabase {
    /// Creates it; `what` says what needs it, for messages and for its name.
    ///
    /// Fails with [`ErrorKind::StoreDenied`] where the role may not create databases.
    pub(crate) async fn create(postgres: &Postgres, what: &str) -> Result<Self> {
        let name = format!("toolkit_{what}_{}", uuid::Uuid::new_v4().simple());
        let mut conn = postgres.dedicated().await?;
        let statement =
            format!("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", quote_ident(&name));
        let created = conn.execute(sql(statement)).await.map_err(Error::from);
        conn.close().await?;
        match created {
            Ok(_) => Ok(Self { name }),
            Err(error) if error.kind() == ErrorKind::StoreDenied => Err(Error::new(
                ErrorKind::StoreDenied,
                format!("{what} works in a database of its own, and this role may not create one"),
            )
            .advice("let a superuser run `ALTER ROLE ... CREATEDB`")
            .because(error)),
            Err(error) => Err(error.context(format!("creating a scratch database for {what}"))),
        }
    }

    /// A connection to it.
    pub(crate) async fn connect(
        &self,
        settings: &Settings,
        postgres: &Postgres,
    ) -> Result<Postgres> {
        postgres.in_database(settings, &self.name).await
    }

    /// Drops it, whoever still uses it.
    pub(crate) async fn drop(self, postgres: &Postgres) -> Result<()> {
        let mut conn = postgres.dedicated().await?;
        let name = quote_ident(&self.name);
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let dropped = conn.execute(sql(statement)).await.map_err(Error::from);
        conn.close().await?;
        dropped.map(drop).map_err(|error| {
            error
                .context(format!("the scratch database {} was not dropped", self.name))
                .advice(format!("drop it: DROP DATABASE {name} WITH (FORCE)"))
        })
    }
}
