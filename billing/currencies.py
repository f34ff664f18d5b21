"""The codes of ISO 4217, list one of January 2026, that have a minor unit: metals, baskets and test codes have none."""

CODES = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW
CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL
HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA
MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD
RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
WITHOUT_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
IN_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
IN_TEN_THOUSANDTHS = "CLF UYW"

CURRENCIES = frozenset(CODES.split())
DIGITS = (
    dict.fromkeys(CURRENCIES, 2)
    | dict.fromkeys(WITHOUT_MINOR_UNIT.split(), 0)
    | dict.fromkeys(IN_THOUSANDTHS.split(), 3)
    | dict.fromkeys(IN_TEN_THOUSANDTHS.split(), 4)
)


def unknown_currency(code: str) -> str:
    """What a client is told whose code is none of CURRENCIES."""
    return f"{code} is no currency of ISO 4217; give a code in capitals, such as EUR."


def format_amount(amount: int, currency: str) -> str:
    """`amount`, in minor units, as people read it: 1250 EUR → "12.50 EUR"."""
    digits = DIGITS[currency]
    if digits == 0:
        return f"{amount} {currency}"
    whole, fraction = divmod(amount, 10**digits)
    return f"{whole}.{fraction:0{digits}} {currency}"
