import pytest

from billing.currencies import CURRENCIES, DIGITS, format_amount


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1250, "EUR", "12.50 EUR"),
        (5, "USD", "0.05 USD"),
        (1250, "JPY", "1250 JPY"),
        (1250, "KWD", "1.250 KWD"),
        (1, "CLF", "0.0001 CLF"),
    ],
)
def test_amounts_read_as_people_write_them(amount: int, currency: str, text: str) -> None:
    assert format_amount(amount, currency) == text


def test_each_currency_has_its_digits() -> None:
    assert set(DIGITS) == CURRENCIES
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES)


@pytest.mark.parametrize("code", ["VED", "VES", "XCG", "SLE", "ZWG", "CHE", "UYW", "XAD"])
def test_codes_that_are_easily_forgotten(code: str) -> None:
    assert code in CURRENCIES


@pytest.mark.parametrize("code", ["ANG", "BGN", "HRK", "CUC", "SLL", "ZWL", "XAU", "XDR", "XTS", "XXX", "eur", ""])
def test_what_is_no_active_code_with_a_minor_unit(code: str) -> None:
    assert code not in CURRENCIES


def test_the_list_is_complete() -> None:
    assert len(CURRENCIES) == 165
