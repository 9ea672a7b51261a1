-- The config of preset $1 merged with all it inherits from; a child's key wins.
SELECT style_config::text FROM webtoon.effective_style($1::text::uuid)
