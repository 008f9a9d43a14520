"""Reads and writes tokenizer.json, which is one format for every kind of tokenizer.

    {"format": 1, "kind": …, "variant": …, "vocab_size": …, "content_hash": …, and what the kind itself needs}

The hash is computed again from what was read, so a file that was changed or cut short is refused.
Left out: what each kind needs besides; its class writes it in `document` and reads it in `from_document`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import paths
from ..errors import TokenizerError
from ..jsonable import dumps

FORMAT = 1
FILE = "tokenizer.json"
FIX = "take an undamaged copy, or train again"


class Saved:
    """Gives a tokenizer class `save` and `load`."""

    kind: str
    variant: str
    asked: int | None = None  # the size that `train` was told; what was learnt may be smaller
    ids_per_event = 1  # this and the next five are defaults of the protocol's members that few tokenizers need

    if TYPE_CHECKING:  # of each subclass

        @property
        def vocab_size(self) -> int: ...

        @property
        def content_hash(self) -> str: ...

        def base_types(self, id: int) -> list[str]: ...

    @property
    def extends(self) -> tuple[str, ...]:
        """Empty: the ids of no other tokenizer mean the same."""
        return ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Empty: a model's steps are single ids."""
        return ()

    def base_names(self, id: int) -> list[str]:
        """The id's number for each of its base tokens: they have no names."""
        return [str(id)] * len(self.base_types(id))

    def unscored(self, ids: np.ndarray) -> np.ndarray | None:
        """None: all ids are scored."""
        return None

    def grown_from(self, other: Any) -> Any:
        """None: this tokenizer does not extend another one."""
        return None

    def document(self) -> dict:
        """What this kind writes besides the head of the file: plain JSON."""
        raise TypeError(f"{type(self).__name__} does not say what it saves")

    @classmethod
    def from_document(cls, document: Mapping) -> Self:
        """The tokenizer of a document; any ValueError, KeyError, TypeError or IndexError means that it is damaged."""
        raise TypeError(f"{cls.__name__} does not say how it is read")

    def save(self, path: Path | str) -> None:
        """Write tokenizer.json, atomically; OutputError where that cannot be."""
        head = {
            "format": FORMAT,
            "kind": self.kind,
            "variant": self.variant,
            "vocab_size": self.vocab_size,
            "content_hash": self.content_hash,
        }
        if self.asked is not None:
            head["asked"] = self.asked
        with paths.atomic_path(Path(path)) as temporary:
            temporary.write_text(dumps(head | self.document()), encoding="utf-8")

    def load(self, path: Path | str) -> Self:
        """Become the tokenizer saved at `path` (its variant too) and return itself; TokenizerError if it is damaged."""
        self.__dict__.update(read(Path(path), {self.kind: type(self)}).__dict__)
        return self


def read(path: Path, classes: Mapping[str, type[Saved]]) -> Any:
    """The tokenizer in a file, of one of the `classes` by kind; TokenizerError if it is damaged or of another kind."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise TokenizerError(f"{path} has format {document['format']}; this version reads {FORMAT}")
        if document["kind"] not in classes:
            wanted = " or ".join(repr(kind) for kind in classes)
            raise TokenizerError(
                f"{path} holds {document['kind']!r}, not {wanted}: ittybitty.tokenizers.load_tokenizer reads every kind"
            )
        loaded = classes[document["kind"]].from_document(document)
        loaded.asked = document.get("asked")
        intact = loaded.content_hash == document["content_hash"]
    except FileNotFoundError:
        raise TokenizerError(f"{path} is not there: give a {FILE} or its folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} cannot be read ({error}): {FIX}") from None
    except TokenizerError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise TokenizerError(f"{path} is not a whole {FILE} ({why}): {FIX}") from None
    if not intact:
        raise TokenizerError(f"{path} was changed after it was written (its content hash differs): {FIX}")
    return loaded


def hash_of(content: object) -> str:
    """16 hexadecimal digits of anything JSON can write: the same content, the same hash."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
