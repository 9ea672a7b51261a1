-- A cast that reads a value otherwise than a second, independent way does is a difference too.

ALTER TABLE toolkit.parity_difference
    DROP CONSTRAINT parity_difference_kind_check,
    ADD CONSTRAINT parity_difference_kind_check CHECK (kind IN
        ('missing', 'extra', 'changed', 'duplicate', 'unaccounted', 'miscast'));
