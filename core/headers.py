"""What the columns and files of shop exports are usually called: the vocabulary behind `segue init`.

Lives here: words, in the languages that shops' exports come in. Must not: read a file or write a project.

A guess is taken by words alone, never by values: a column of eight digits may be a key, a date or a telephone
number, and a wrong guess that builds is worse than a question.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .reading import TableName

# Per table, what each of our columns is called elsewhere: English, German, French, Spanish, Italian, Dutch, and what
# the common shop systems export. Earlier words win when a file has several. All are as `folded` makes them,
# with a space between.
WORDS: Final[Mapping[TableName, Mapping[str, str]]] = {
    "customers": {
        "contact_id": (
            "contactid customerid customer custid clientid userid kundennr kundennummer kundenid kunde idclient "
            "numeroclient idcliente codigocliente codicecliente klantnummer klantid memberid id"
        ),
        "email": (
            "email emailaddress mail mailadresse emailadresse customeremail courriel adressemail correo "
            "correoelectronico"
        ),
        "first_name": "firstname givenname forename vorname prenom nombre nome voornaam fname",
        "last_name": (
            "lastname surname familyname nachname familienname nom apellido apellidos cognome achternaam lname"
        ),
        "phone": "phone phonenumber telephone mobile telefon telefonnummer mobil telefono telefoon",
        "gender": "gender sex geschlecht genre sexe genero sesso geslacht",
        "birth_date": (
            "birthdate dateofbirth dob birthday geburtsdatum geburtstag datedenaissance fechadenacimiento "
            "datadinascita geboortedatum"
        ),
        "country": "country countrycode land laendercode landercode pays pais paese billingcountry",
        "city": "city town ort stadt wohnort ville ciudad citta stad plaats billingcity",
        "postal_code": "postalcode postcode zip zipcode plz postleitzahl codepostal codigopostal cap billingzip",
        "language": "language locale lang sprache langue idioma lingua taal",
        "currency": "currency currencycode waehrung wahrung devise moneda valuta",
        "created_at": (
            "createdat created dateadded registered registeredat registrationdate signupdate customersince "
            "firstseenat firstseen kundeseit angelegt angelegtam erstelltam registriertam"
        ),
        "updated_at": "updatedat updated modifiedat lastmodified changedat geaendertam geandertam",
    },
    "products": {
        "product_id": (
            "productid sku stockcode itemid articleid articlenumber artikelnr artikelnummer artikelid produktid "
            "produktnr reference referencia codigo codice productcode variantsku handle id"
        ),
        "name": (
            "name productname title description bezeichnung artikelname artikelbezeichnung produktname nom nombre "
            "nome titel beschreibung"
        ),
        "category": (
            "category derivedcategory productcategory producttype type kategorie warengruppe categorie categoria "
            "department collection"
        ),
        "url": "url producturl link permalink",
        "image_url": "imageurl image imagelink imagesrc picture bild bildurl",
        "price": (
            "price listprice unitprice regularprice saleprice preis listenpreis verkaufspreis vk prix precio prezzo prijs"
        ),
        "currency": "currency currencycode waehrung wahrung devise moneda valuta",
        "in_stock": "instock available isavailable availability lieferbar verfuegbar verfugbar stock",
        "is_merchandise": "ismerchandise isproduct merchandise",
    },
    "orders": {
        "order_id": (
            "orderid ordernumber orderno order invoiceno invoiceid invoice bestellnr bestellnummer bestellid bestellung "
            "auftragsnr auftragsnummer rechnungsnr rechnungsnummer numerocommande idcommande numeropedido idpedido "
            "bestelnummer id name"
        ),
        "contact_id": (
            "contactid customerid customer custid clientid userid kundennr kundennummer kundenid kunde idclient "
            "numeroclient idcliente codigocliente codicecliente klantnummer klantid"
        ),
        "ordered_at": (
            "orderedat orderdate orderdatetime ordertime createdat created date datetime timestamp invoicedate "
            "purchasedate bestelldatum bestelltam bestelltermin auftragsdatum rechnungsdatum datum datecommande "
            "fechapedido dataordine besteldatum processedat"
        ),
        "kind": "kind documenttype ordertype type belegart status",
        "country": "country shippingcountry countrycode lieferland land pays pais paese",
        "currency": "currency currencycode waehrung wahrung devise moneda valuta",
    },
    "order_items": {
        "order_id": (
            "orderid ordernumber orderno order invoiceno invoiceid invoice bestellnr bestellnummer bestellid bestellung "
            "auftragsnr auftragsnummer rechnungsnr rechnungsnummer numerocommande idcommande numeropedido idpedido "
            "bestelnummer"
        ),
        "line_no": "lineno linenumber line position pos positionsnr lineitemid",
        "product_id": (
            "productid sku stockcode itemid articleid articlenumber artikelnr artikelnummer artikelid artikel produktid "
            "produktnr product reference referencia codigo codice productcode lineitemsku"
        ),
        "quantity": "quantity qty amount menge anzahl stueck stuck quantite cantidad quantita aantal lineitemquantity",
        "unit_price": (
            "unitprice price priceperunit itemprice einzelpreis stueckpreis stuckpreis preis prixunitaire prix "
            "preciounitario precio prezzounitario prezzo stukprijs prijs lineitemprice"
        ),
    },
    "events": {
        "event_id": "eventid messageid id",
        "contact_id": "contactid customerid customer clientid userid kundennr kundennummer kundenid",
        "event_type": "eventtype event eventname type action ereignis aktion",
        "occurred_at": "occurredat timestamp eventtime time datetime date sentat zeitpunkt zeit datum",
        "product_id": "productid sku stockcode itemid artikelnr artikelnummer",
        "url": "url page pageurl path seite",
        "campaign_id": "campaignid campaign utmcampaign kampagne",
    },
    "consents": {
        "contact_id": "contactid customerid customer clientid userid kundennr kundennummer kundenid",
        "email": "email emailaddress mail mailadresse emailadresse",
        "channel": "channel kanal canal",
        "purpose": "purpose topic zweck",
        "act": "act action consent status optin einwilligung consentement",
        "occurred_at": (
            "occurredat timestamp consentedat optintime optinat confirmedat signupat date datetime zeitpunkt datum"
        ),
        "source": "source quelle origin form formular",
        "evidence": "evidence proof nachweis beleg",
    },
}

# What a file must have to be a table at all; a consent also needs one of contact_id and email.
NEEDED: Final[Mapping[TableName, tuple[str, ...]]] = {
    "customers": ("contact_id",),
    "products": ("product_id",),
    "orders": ("order_id", "ordered_at"),
    "order_items": ("order_id", "product_id", "quantity", "unit_price"),
    "events": ("contact_id", "event_type", "occurred_at"),
    "consents": ("act", "occurred_at"),
}

_FILE_WORDS: Final[Mapping[TableName, str]] = {
    "order_items": (
        "orderitem orderline orderposition lineitem invoiceline salesline bestellposition auftragsposition "
        "rechnungsposition position lignescommande transaction"
    ),
    "consents": "consent optin einwilligung newsletter subscri abonn permission",
    "events": "event click tracking ereignis activity aktivitaet behaviour behavior pageview",
    "customers": "customer kunde client cliente klant contact kontakt user member",
    "orders": "order bestellung auftrag invoice rechnung commande pedido ordine bestelling sales purchase",
    "products": "product produkt artikel article item catalog katalog producto prodotto produit sku",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file read as a table: `columns` is ours -> theirs, `unused` what is left of theirs."""

    table: TableName
    columns: Mapping[str, str]
    unused: tuple[str, ...]
    by_name: bool
    lacking: tuple[str, ...]

    @property
    def weight(self) -> float:
        """How well the file fits the table; a file that lacks a needed column never fits."""
        return (
            3.0 * self.by_name + len(self.columns) / (1 + 0.2 * len(self.unused)) - 100.0 * len(self.lacking)
        )


def folded(word: str) -> str:
    """Bring a header to letters and digits alone, without accents or case.

    >>> folded("Kunden-Nr."), folded("Prénom"), folded("order_ID"), folded("Straße")
    ('kundennr', 'prenom', 'orderid', 'strasse')
    """
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())


def readings(path: Path, headers: Sequence[str]) -> list[Reading]:
    """Read a file's headers as each table in turn, the best fitting first."""
    stem = folded(path.name.partition(".")[0])
    named = next(
        (table for table, words in _FILE_WORDS.items() if any(word in stem for word in words.split())), None
    )
    found = [_read_as(table, headers, by_name=table == named) for table in WORDS]
    return sorted(found, key=lambda reading: -reading.weight)


def _read_as(table: TableName, headers: Sequence[str], *, by_name: bool) -> Reading:
    by_folded = {folded(header): header for header in reversed(headers)}
    columns: dict[str, str] = {}
    for ours, words in WORDS[table].items():
        names = (folded(ours), *words.split())
        theirs = next(
            (
                by_folded[name]
                for name in names
                if name in by_folded and by_folded[name] not in columns.values()
            ),
            None,
        )
        if theirs is not None:
            columns[ours] = theirs
    lacking = [name for name in NEEDED[table] if name not in columns]
    if table == "consents" and not {"contact_id", "email"} & columns.keys():
        lacking.append("contact_id")
    return Reading(
        table=table,
        columns=columns,
        unused=tuple(header for header in headers if header not in columns.values()),
        by_name=by_name,
        lacking=tuple(lacking),
    )
