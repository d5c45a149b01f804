//! TPC-DS: generates its tables as Parquet files. The queries are files: see [`crate::suite::Suite::tpcds`].

use std::path::Path;

use tpcdsgen::config::{Session, SessionBuilder};
use tpcdsgen_arrow::{
    CallCenterArrow, CatalogPageArrow, CatalogReturnsArrow, CatalogSalesArrow, CustomerAddressArrow, CustomerArrow,
    CustomerDemographicsArrow, DateDimArrow, HouseholdDemographicsArrow, IncomeBandArrow, InventoryArrow, ItemArrow,
    PromotionArrow, ReasonArrow, ShipModeArrow, StoreArrow, StoreReturnsArrow, StoreSalesArrow, TimeDimArrow,
    WarehouseArrow, WebPageArrow, WebReturnsArrow, WebSalesArrow, WebSiteArrow,
};

use crate::files::{self, BATCH_ROWS, Error, Rows};

/// The name of a table, and the function that generates its rows in a session.
type Table = (&'static str, fn(Session) -> Rows);

macro_rules! tables {
    ($($name:literal => $generator:ident),* $(,)?) => {
        [$(($name, |session| Rows {
            schema: $generator::schema_ref(),
            batches: Box::new($generator::new(session).with_batch_size(BATCH_ROWS)),
        })),*]
    };
}

const TABLES: [Table; 24] = tables! {
    "call_center" => CallCenterArrow,
    "catalog_page" => CatalogPageArrow,
    "catalog_returns" => CatalogReturnsArrow,
    "catalog_sales" => CatalogSalesArrow,
    "customer" => CustomerArrow,
    "customer_address" => CustomerAddressArrow,
    "customer_demographics" => CustomerDemographicsArrow,
    "date_dim" => DateDimArrow,
    "household_demographics" => HouseholdDemographicsArrow,
    "income_band" => IncomeBandArrow,
    "inventory" => InventoryArrow,
    "item" => ItemArrow,
    "promotion" => PromotionArrow,
    "reason" => ReasonArrow,
    "ship_mode" => ShipModeArrow,
    "store" => StoreArrow,
    "store_returns" => StoreReturnsArrow,
    "store_sales" => StoreSalesArrow,
    "time_dim" => TimeDimArrow,
    "warehouse" => WarehouseArrow,
    "web_page" => WebPageArrow,
    "web_returns" => WebReturnsArrow,
    "web_sales" => WebSalesArrow,
    "web_site" => WebSiteArrow,
};

/// Writes the tables that are missing in `directory`.
pub fn generate(directory: &Path, scale: f64) -> Result<(), Error> {
    files::create_directory(directory, scale)?;
    for (name, rows) in TABLES {
        let session = SessionBuilder::new()
            .with_scale_factor(scale)
            .build()
            .map_err(|error| Error::Scale { scale, reason: error.to_string() })?;
        files::write(directory, name, scale, || rows(session), |_| {})?;
    }
    Ok(())
}

/// The names of the tables.
pub fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}
