-- The target of the shop. Its SQLite side is made by either steady_writer.

CREATE SCHEMA shop;

CREATE TABLE shop.orders (
    id        bigint CONSTRAINT orders_pkey PRIMARY KEY,
    customer  text NOT NULL,
    cents     bigint NOT NULL,
    version   bigint NOT NULL,
    placed_at timestamptz NOT NULL,
    note      text
);
CREATE INDEX orders_customer_idx ON shop.orders (customer);

CREATE TABLE shop.lines (
    order_id bigint NOT NULL CONSTRAINT lines_order_id_fkey
             REFERENCES shop.orders (id) ON DELETE CASCADE,
    line     bigint NOT NULL,
    sku      text NOT NULL,
    quantity bigint NOT NULL,
    CONSTRAINT lines_pkey PRIMARY KEY (order_id, line)
);
