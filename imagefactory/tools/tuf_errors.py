"""What python-tuf raises, as errors of ours: each of its classes has exactly one code, and nothing gets by raw."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from securesystemslib.exceptions import StorageError
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.serialization import DeserializationError, SerializationError

from imagefactory.errors import (
    CatalogueDamaged,
    CatalogueEndless,
    CatalogueFrozen,
    CatalogueMixed,
    CatalogueRollback,
    CatalogueUnreachable,
    CatalogueUnsigned,
    FactoryError,
    TrustStoreUnusable,
)

LONGEST = 300  # characters of a message that strangers had a hand in

MEANINGS: Final[Mapping[type[Exception], type[FactoryError]]] = {
    RepositoryError: CatalogueDamaged,
    SerializationError: CatalogueDamaged,
    DeserializationError: CatalogueDamaged,
    UnsignedMetadataError: CatalogueUnsigned,
    BadVersionNumberError: CatalogueRollback,
    EqualVersionNumberError: CatalogueRollback,
    ExpiredMetadataError: CatalogueFrozen,
    LengthOrHashMismatchError: CatalogueMixed,
    DownloadError: CatalogueUnreachable,
    DownloadHTTPError: CatalogueUnreachable,
    SlowRetrievalError: CatalogueUnreachable,
    DownloadLengthMismatchError: CatalogueEndless,
    StorageError: TrustStoreUnusable,
}


@contextmanager
def translated(about: Callable[[], str], store: Path) -> Iterator[None]:
    """Around calls of the library. `about` says what it dealt with last: a file of the catalogue. It writes `store`
    with plain calls; what it reads from elsewhere comes as a DownloadError.

    Raises CatalogueDamaged, CatalogueUnsigned, CatalogueRollback, CatalogueFrozen, CatalogueMixed, CatalogueEndless,
    CatalogueUnreachable, TrustStoreUnusable. Errors of ours pass.
    """
    try:
        yield
    except FactoryError:
        raise
    except OSError as error:
        raise TrustStoreUnusable(f"{store}: {said(error)}") from error
    except Exception as error:  # metadata of odd types is signed like any other, and met with whatever Python raises
        raise translate(error, about()) from error


def translate(error: Exception, about: str) -> FactoryError:
    """The error of ours that one of the library's stands for; what has no meaning of its own is damage."""
    kind = next((MEANINGS[each] for each in type(error).__mro__ if each in MEANINGS), CatalogueDamaged)
    return kind(f"{about}: {said(error)}")


def said(error: Exception) -> str:
    """The words of an error, short, printable, and with what the operating system said if it was asked.

    Of causes nothing else is repeated: urllib3 would name a proxy with its password.
    """
    words = [] if isinstance(error, OSError) else [str(error)]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            words.append(cause.strerror)
            break
        cause = cause.__cause__
    text = ": ".join(filter(None, words)) or type(error).__name__
    return "".join(each if each.isprintable() else "?" for each in text[:LONGEST])
