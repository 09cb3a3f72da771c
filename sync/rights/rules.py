"""The rules of `segue privacy check`: what each is called, why it matters and what to do. Nothing is looked at here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, in words for a marketer and a data-protection officer."""

    name: str
    why: str
    fix: str


_TABLE: Final = (
    (
        "vague_purpose",
        "What leaves the shop needs a stated reason (GDPR, art. 5(1)(b)); a word like “marketing” states none.",
        "Say in the mapping what the value is used for, such as “greeting in the newsletter”.",
    ),
    (
        "undeclared_personal_data",
        "Names, addresses and the like that go to a destination belong into the record of processing (art. 30).",
        "List the trait in `privacy: personal_data`, or remove the field from the mapping.",
    ),
    (
        "unused_personal_data",
        "Data that no mapping and no segment uses is kept without need (art. 5(1)(c)).",
        "Leave the column out of the source's query or `columns`, or use it.",
    ),
    (
        "grant_without_evidence",
        "Who mails has to prove that people agreed (art. 7(1)); a grant without evidence counts for nothing here.",
        "Have the source give evidence: form, version of the text, time, IP or reference.",
    ),
    (
        "retention_not_set",
        "How long data is kept is to be decided, and not left to a default (art. 5(1)(e)).",
        "Write `retention:` into segue.yml, and put `segue purge` into the schedule.",
    ),
    (
        "webhooks_unsigned",
        "Without a signature, whoever learns the path can unsubscribe people.",
        "Have the platform sign, and give its secret in `webhooks: secrets`.",
    ),
    (
        "store_not_encrypted",
        "A copy of the store shows what was sent about whom (art. 32(1)(a)).",
        "Set `encryption_key`, then run `segue store rotate-key`.",
    ),
    (
        "secret_readable",
        "Every user of the machine can read the secret.",
        "`chmod 600` the file.",
    ),
    (
        "state_readable",
        "Every user of the machine can read the store or the snapshots, which hold the shop's customers.",
        "`chmod 700` the folder, `chmod 600` the file.",
    ),
    (
        "contact_key_beside_store",
        "Whoever copies the folder has the keyed hashes and their key, and can look people up (art. 4(5)).",
        "Keep the contact key elsewhere: env:NAME, or a file in another folder. The key itself must stay the same.",
    ),
    (
        "debug_logging",
        "Debug lines say more than a log that is kept for long should.",
        "Set SEGUE_LOG_LEVEL to info, or unset it.",
    ),
    (
        "plain_http",
        "Keys and personal data go over the network without encryption.",
        "Write https://.",
    ),
    (
        "opt_out_in_europe",
        "In the EU and the EEA, the United Kingdom and Switzerland silence is no consent to e-mail marketing.",
        "Remove the country from `consent: regimes`, or write opt_in or double_opt_in.",
    ),
    (
        "erasure_waits",
        "An erasure that was asked for has to be done within a month (art. 12(3)).",
        "`segue forget --resume` does what is left and says what stands in the way.",
    ),
    (
        "acceptance_without_finding",
        "What is accepted is not there any more; left in segue.yml, it would hide it when it comes again.",
        "Remove the rule from `privacy: accepted`.",
    ),
)

RULES: Final[Mapping[str, Rule]] = {name: Rule(name=name, why=why, fix=fix) for name, why, fix in _TABLE}
