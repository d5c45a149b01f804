//! Options of CREATE EXTERNAL TABLE about the table's store: `OPTIONS ('aws.region' 'eu-west-1', …)`.
//!
//! They may be secrets, so they leave the statement before it is planned. The store gets a name at random, which stands
//! before the bucket in the statement's locations. The catalog keeps the store apart from the statement.
//!
//! ```text
//! LOCATION 's3://lake/x' OPTIONS ('aws.region' 'r', …)  ->  LOCATION 's3://5f0c…@lake/x'  +  record stores/5f0c…
//! ```

use std::sync::Arc;

use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::Value;
use hwacha_storage::{Stores, TableStore, in_table_store, names_table_store};

use crate::error::Error;

/// The store of a table that is being made. It is forgotten when this is dropped, unless it is kept.
pub(crate) struct NewStore {
    stores: Arc<Stores>,
    pub name: String,
    pub store: TableStore,
    is_kept: bool,
}

impl NewStore {
    /// Takes the options about the store out of a statement. `None` if it has none.
    pub(super) fn take(create: &mut CreateExternalTable, stores: &Arc<Stores>) -> Result<Option<Self>, Error> {
        let (options, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut create.options).into_iter().partition(|(name, _)| TableStore::is_option(name));
        create.options = others;
        if let Some(location) = create.locations.iter().find(|location| names_table_store(location)) {
            return Err(Error::invalid(format!(
                "{location} has a name before the bucket; leave out the part before @"
            )));
        }
        if options.is_empty() {
            return Ok(None);
        }
        let read = |(name, value)| Ok((name, text(value)?));
        let options: Vec<_> = options.into_iter().map(read).collect::<Result<_, Error>>()?;
        let store = TableStore::of_options(&create.locations, &options).map_err(Error::invalid)?;
        if let Some(endpoint) = store.endpoint() {
            stores.check(endpoint).map_err(Error::Failed)?;
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let locations = create.locations.iter().map(|location| in_table_store(location, &name));
        create.locations =
            locations.collect::<Option<_>>().ok_or_else(|| Error::invalid("write a location as a URL"))?;
        stores.add_table(&name, store.clone());
        Ok(Some(Self { stores: Arc::clone(stores), name, store, is_kept: false }))
    }

    /// Keeps the store, since the catalog has its table.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewStore {
    fn drop(&mut self) {
        if !self.is_kept {
            self.stores.remove_table(&self.name);
        }
    }
}

/// The text of a value. An error does not show the value.
fn text(value: Value) -> Result<String, Error> {
    match value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::Number(text, _) => Ok(text),
        Value::Boolean(flag) => Ok(flag.to_string()),
        _ => Err(Error::invalid("the options of a table are texts in single quotes")),
    }
}
