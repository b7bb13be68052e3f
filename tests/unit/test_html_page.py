"""A page says its texts as they are, and none of them is markup."""

from imagefactory.cli.tables import html_page, table_of


def test_texts_are_no_markup() -> None:
    table = table_of("RULE")
    table.add_row("<img src=x onerror=y> [bold]")
    page = html_page(["<script>a & b</script>"], table)
    assert "&lt;script&gt;a &amp; b&lt;/script&gt;" in page
    assert "&lt;img src=x onerror=y&gt; [bold]" in page
    assert "<script" not in page
    assert "<img" not in page
