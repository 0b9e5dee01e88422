"""Archives of a dataset that would write elsewhere, lead elsewhere or fill the disk of what unpacks them."""

import gzip
import io
import tarfile

FOLDER = "cifar-10-batches-py"


def _member(name, kind=tarfile.REGTYPE, data=b"", link="", **pax):
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname, entry.pax_headers = kind, len(data), link, pax
    return entry, data


def _pack(files, *extra):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=1) as archive:
        for entry, data in [*(_member(f"{FOLDER}/{name}", data=data) for name, data in files.items()), *extra]:
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def hostile_archives(files: dict[str, bytes], outside: str) -> dict[str, bytes]:
    """Archives of `files`, all whole, with something beside them that would end up at or in the folder `outside`."""
    climbing = "../" * 12 + outside.lstrip("/")
    first = next(iter(files))
    return {
        "a name that climbs": _pack(files, _member(f"{climbing}/x", data=b"x")),
        "a name that climbs from inside": _pack(files, _member(f"{FOLDER}/{climbing}/x", data=b"x")),
        "a folder that climbs": _pack(files, _member(f"{climbing}/new", tarfile.DIRTYPE)),
        "an absolute name": _pack(files, _member(f"{outside}/x", data=b"x")),
        "an absolute name in an extended header": _pack(files, _member("harmless", data=b"x", path=f"{outside}/x")),
        "a name for Windows": _pack(files, _member(f"{FOLDER}\\..\\x", data=b"x")),
        "a symbolic link": _pack(files, _member(f"{FOLDER}/link", tarfile.SYMTYPE, link=outside)),
        "a file through a symbolic link": _pack(
            files,
            _member("door", tarfile.SYMTYPE, link=outside),
            _member("door/x", data=b"x"),
        ),
        "a hard link": _pack(files, _member(f"{FOLDER}/link", tarfile.LNKTYPE, link=f"{FOLDER}/{first}")),
        "a character device": _pack(files, _member(f"{FOLDER}/zero", tarfile.CHRTYPE)),
        "a block device": _pack(files, _member(f"{FOLDER}/disk", tarfile.BLKTYPE)),
        "a pipe": _pack(files, _member(f"{FOLDER}/pipe", tarfile.FIFOTYPE)),
        "a sparse file": _pack(files, _member(f"{FOLDER}/sparse", tarfile.GNUTYPE_SPARSE)),
        "a batch twice": _pack(files, _member(f"{FOLDER}/{first}", data=b"other")),
        "a bomb in a member": _pack(files, _member(f"{FOLDER}/bomb", data=bytes(2**24))),
        "a bomb behind the members": _pack(files) + gzip.compress(bytes(2**26)),
        "a thousand members": _pack(files, *(_member(f"{FOLDER}/{i}") for i in range(1000))),
    }
