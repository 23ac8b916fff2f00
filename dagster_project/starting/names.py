"""What the name of a column suggests, where no value may be looked at."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[^\W\d_]+")
_KEY = {"id", "no", "nr", "number", "code", "key", "index", "name"}
_PERSON = {
    *("patient", "patients", "person", "subject", "participant", "identity", "individual"),
    *("mrn", "pid", "donor", "case", "user"),
}
_IMAGE = {
    *("image", "img", "file", "filename", "path", "picture", "photo", "dicom", "scan", "bild"),
    *("datei", "dateiname", "foto", "fichier"),
}
_PROSE = {
    *("surname", "firstname", "lastname", "address", "street", "phone", "email", "ssn", "unnamed"),
    *("comment", "comments", "note", "notes", "remark", "remarks", "report", "description", "text"),
    *("bericht", "bemerkung", "kommentar", "nachname", "vorname", "adresse"),
}
_NUMBER = {
    *("age", "year", "count", "follow", "weight", "height", "bmi", "dose", "score", "size"),
    *("duration", "alter", "gewicht"),
}
_DATE = {"date", "day", "dob", "birthday", "datum"}


def words(column: str) -> set[str]:
    """Return the words of a column name.

    >>> sorted(words("PatientID")), sorted(words("follow_up"))
    (['id', 'patient'], ['follow', 'up'])
    """
    return set(_WORDS.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower()))


def is_person(column: str) -> bool:
    """Whether a column seems to name the person: patient or PatientID, but not patient_age."""
    return _called(column, _PERSON)


def is_image(column: str) -> bool:
    """Whether a column seems to name the images: file_name or Path, but not image_date."""
    return _called(column, _IMAGE)


def is_prose(column: str) -> bool:
    """Whether a column seems to hold free text or an address, which cannot be learnt."""
    return bool(_PROSE & words(column)) or ("name" in words(column) and not is_image(column))


def is_number(column: str) -> bool:
    """Whether a column seems to hold numbers."""
    return bool(_NUMBER & words(column))


def is_date(column: str) -> bool:
    """Whether a column seems to hold dates."""
    return bool(_DATE & words(column))


def attribute_name(column: str) -> str:
    """Return a name for a column's attribute: the letters, digits, spaces, dots and hyphens of it.

    >>> attribute_name("Frontal/Lateral"), attribute_name("Follow-up #")
    ('Frontal_Lateral', 'Follow-up')
    """
    return re.sub(r"[^\w .\-]+", "_", column).strip(" ._-")[:64]


def _called(column: str, what: set[str]) -> bool:
    found = words(column)
    return bool(found & what) and found <= what | _KEY
