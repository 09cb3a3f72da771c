"""What was pulled, as a build takes it: values of others' fields as traits, opens and clicks as events, by contact.

The store knows addresses by their keys alone; the join with the shop's customers happens in the build's own engine.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final

import pyarrow as pa
from ibis.backends.duckdb import Backend

from ...core.config import Project
from ...core.learnt import Learnt, LearntTables
from ...core.model import Trait, TraitType
from ...core.yamlfile import Document, validate
from ...mappings.config import FieldConfig, MappingConfig
from ..store.pulled import ADDRESS, ENGAGEMENT
from ..store.store import Store

_VALUES: Final = pa.schema(
    [
        ("destination", pa.string()),
        ("address_key", pa.int64()),
        ("tag", pa.string()),
        ("trait", pa.string()),
        ("value", pa.string()),
        ("changed_at", pa.timestamp("us", "UTC")),
    ]
)

# A contact is known at a destination by the address of the data, and by the one that they have changed it to there.
_PEOPLE: Final = """
CREATE TEMP TABLE learnt_people AS
WITH c AS (SELECT contact_id, address_key(email) AS address_key FROM customers WHERE email IS NOT NULL)
SELECT contact_id, destination, address_key FROM c, (SELECT DISTINCT destination FROM learnt_destinations)
UNION
SELECT c.contact_id, m.destination, address_key(m.value)
FROM c JOIN (FROM learnt_values WHERE tag = '{ADDRESS}') m USING (address_key)
"""
_TOLD: Final = """
CREATE TEMP TABLE learnt_told AS
SELECT contact_id, destination, tag, trait, value, changed_at
FROM learnt_values JOIN learnt_people USING (destination, address_key)
WHERE trait IS NOT NULL AND value IS NOT NULL AND changed_at <= $as_of
"""
_EVENTS: Final = """
CREATE TEMP TABLE learnt_events AS
SELECT md5(concat_ws('|', contact_id, destination, kind, epoch_us(occurred_at), campaign)) AS event_id, contact_id,
       CASE kind WHEN 'open' THEN 'email_opened' ELSE 'email_clicked' END AS event_type, occurred_at,
       NULL::VARCHAR AS product_id, NULL::VARCHAR AS url, campaign AS campaign_id
FROM learnt_engagement JOIN learnt_people USING (destination, address_key)
WHERE occurred_at <= $as_of
"""


def learnt_by(project: Project) -> Learnt | None:
    """Say what a build of this project learns from its destinations, None when it learns nothing."""
    fields = list(_pulled_fields(project))
    if not fields and not any(config.engagement for config in project.destinations.values()):
        return None
    return Learnt(traits=learnt_traits(project), read=partial(_read, project))


def learnt_traits(project: Project) -> tuple[Trait, ...]:
    """Give the traits that pulled fields become, each once. What is wrong in a mapping is its own check's to say."""
    traits: dict[str, Trait] = {}
    for destination, config in _pulled_fields(project):
        name = config.trait or ""
        description = f"{config.label}, as {destination} has it"
        null_means = "nobody wrote it there"
        traits.setdefault(
            name, Trait(name=name, type=TraitType.TEXT, description=description, null_means=null_means)
        )
    return tuple(traits.values())


def _pulled_fields(project: Project) -> Iterator[tuple[str, FieldConfig]]:
    for destination, config in project.destinations.items():
        document, _ = Document.read(project.folder / config.mapping)
        mapping, _ = validate(document, MappingConfig)
        for field in mapping.fields if mapping else ():
            if field.direction == "pull":
                yield destination, field


def _read(project: Project, con: Backend, as_of: datetime) -> LearntTables:
    engine = con.con
    with Store.of(project) as store:
        store.keys.install(engine)
        engine.execute("CREATE TEMP TABLE learnt_destinations (destination VARCHAR)").fetchall()
        for destination in project.destinations:
            engine.execute("INSERT INTO learnt_destinations VALUES (?)", [destination]).fetchall()
        for table, schema, batches in (
            ("learnt_values", _VALUES, _values(project, store)),
            ("learnt_engagement", ENGAGEMENT, store.pulled.stream_engagement()),
        ):
            engine.register("learnt_batch", schema.empty_table())
            engine.execute(f"CREATE TEMP TABLE {table} AS FROM learnt_batch").fetchall()
            for batch in batches:
                engine.register("learnt_batch", pa.Table.from_batches([batch]))
                engine.execute(f"INSERT INTO {table} FROM learnt_batch").fetchall()
            engine.unregister("learnt_batch")
    engine.execute(_PEOPLE.replace("{ADDRESS}", ADDRESS)).fetchall()
    for statement in (_TOLD, _EVENTS):
        engine.execute(statement, {"as_of": as_of}).fetchall()
    return LearntTables(values=con.table("learnt_told"), events=con.table("learnt_events"))


def _values(project: Project, store: Store) -> Iterator[pa.RecordBatch]:
    traits: dict[str, dict[str, str | None]] = {name: {ADDRESS: None} for name in project.destinations}
    for destination, field in _pulled_fields(project):
        traits[destination][field.tag or ""] = field.trait
    for destination, by_tag in traits.items():
        for rows in store.pulled.stream_values(destination, by_tag):
            columns = zip(
                *(
                    (destination, key, tag, by_tag[tag], each.value, each.changed_at)
                    for key, tag, each in rows
                ),
                strict=True,
            )
            yield pa.record_batch(
                [pa.array(column, kind.type) for column, kind in zip(columns, _VALUES, strict=True)],
                schema=_VALUES,
            )
