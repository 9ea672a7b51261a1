//! Arguments, output, one file per command; the only place that prints.
