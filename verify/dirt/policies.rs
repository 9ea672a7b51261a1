//! Policy by outcome.
