"""With a list of types a file of a type that it has is taken, and nothing else gets past it."""

import io
import struct
import zipfile

import puremagic
import pytest

from support_service.attachments.content import (
    CONTENT_TYPE_ALIASES,
    TYPES_WITH_SHARED_CONTAINER,
    UploadValidator,
    detect_content_type,
)
from support_service.core.errors import ValidationFailed
from support_service.platform.settings.resources import AttachmentSettings
from tests.support.each import each_row

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."
WEBM = bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d42878104")
OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + bytes.fromhex("3e000300feff0900") + bytes(480)


def boxed(*brands):
    return struct.pack(">I4s4sI", 12 + 4 * len(brands), b"ftyp", brands[0], 0) + b"".join(brands[1:]) + bytes(32)


def zipped(*names):
    """An archive of files with these names, each with what stands after its `=`, if anything does."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name.partition("=")[0]), name.partition("=")[2] or "x")
    return packed.getvalue()


def of(declared, filename, *heads):
    return [(declared, filename, head) for head in heads]


TAKEN = [
    ("application/pdf", "a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    *of("image/jpeg", "a.jpg", bytes.fromhex("ffd8ffe000104a46494600010100000100010000")),
    *of("image/jpeg", "a.jpg", b"\xff\xd8\xff\xe1\x124Exif\0\0II*\0", b"\xff\xd8\xff\xe2\x0cXICC_PROFILE\0"),
    ("image/png", "a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ("image/gif", "a.gif", b"GIF89a\x01\0\x01\0\x80\0\0"),
    ("image/webp", "a.webp", b"RIFF\x24\0\0\0WEBPVP8 "),
    *of("image/heic", "a.heic", boxed(b"heic", b"mif1", b"heic"), boxed(b"heic", b"mif1", b"heic", b"miaf")),
    ("image/heic", "a.heic", boxed(b"heic", b"mif1", b"MiHE", b"MiPr", b"miaf", b"heic")),
    ("image/heif", "a.heif", boxed(b"mif1", b"mif1", b"heic", b"miaf")),
    ("image/avif", "a.avif", boxed(b"avif", b"avif", b"mif1", b"miaf")),
    *of("image/tiff", "a.tif", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"),
    ("image/bmp", "a.bmp", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"),
    ("image/svg+xml", "a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("image/svg+xml", "a.svg", b'<?xml version="1.0"?>\n<!-- Generator -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("image/svg+xml", "a.svg", b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C" "u" [<!ENTITY a "b">]>\n<svg />'),
    *of("video/mp4", "a.mp4", boxed(b"isom", b"isom", b"iso2", b"mp41"), boxed(b"mp42", b"isom", b"mp42")),
    *of("video/quicktime", "a.mov", boxed(b"qt  ", b"qt  "), b"\0\0\x10\0moov\0\0\0\x6cmvhd"),
    ("video/webm", "a.webm", WEBM),
    ("audio/webm", "a.weba", WEBM),
    *of("audio/mpeg", "a.mp3", b"ID3\x04\0\0\0\0\0\x23TSSE", bytes.fromhex("fffb9064") + bytes(30)),
    ("audio/vnd.wave", "a.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0"),
    ("audio/wav", "a.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0"),
    ("audio/ogg", "a.ogg", b"OggS\0\2" + bytes(20) + b"\x01\x1e\x01vorbis"),
    ("video/ogg", "a.ogv", b"OggS\0\2" + bytes(20) + b"\x01\x2a\x80theora"),
    *of("audio/mp4", "a.m4a", boxed(b"M4A ", b"isom"), boxed(b"mp42", b"isom", b"mp42")),
    *of("application/zip", "a.zip", zipped("a.txt"), bytes.fromhex("504b03041400080008000000") + bytes(30)),
    (OOXML + "wordprocessingml.document", "a.docx", zipped("[Content_Types].xml", "word/document.xml")),
    (OOXML + "spreadsheetml.sheet", "a.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml")),
    (OOXML + "presentationml.presentation", "a.pptx", zipped("[Content_Types].xml", "ppt/presentation.xml")),
    (ODF + "text", "a.odt", zipped(f"mimetype={ODF}text", "content.xml")),
    (ODF + "spreadsheet", "a.ods", zipped(f"mimetype={ODF}spreadsheet", "content.xml")),
    ("application/msword", "a.doc", OLE),
    ("application/vnd.ms-excel", "a.xls", OLE),
    ("application/vnd.ms-powerpoint", "a.ppt", OLE),
    ("text/csv", "a.csv", b"order,status\nORD-1,paid\n"),
    *of("text/plain", "a.txt", b"My parcel has not arrived.\n", b"*** It has not arrived ***", b"0123456789 my number"),
    *of("text/plain", "a.txt", "Món hàng".encode("utf-16"), b"From: Ann", b"Received: box broken"),
    ("text/html", "a.html", b"<!DOCTYPE html>\n<html><body>"),
    ("application/json", "a.json", b'{"a": 1}'),
    ("text/xml", "a.xml", b'<?xml version="1.0"?>\n<a/>'),
    ("application/xml", "a.xml", b'<?xml version="1.0"?>\n<a/>'),
    *of("message/rfc822", "a.eml", b"Return-Path: <a@b>\r\nReceived: from mx\r\n", b"From: Ann <a@b>\r\nTo: c@d\r\n"),
]
PLY = zipped("a" * 20 + "ply")
PROGRAM = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0"
PAGE = b"<html><script>alert(1)</script></html>"
XHTML = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<html xmlns="http://www.w3.org/1999/xhtml"/>'
IMAGES, TEXTS = ("image/png", "image/*"), ("text/plain", "text/plain,text/csv")
REFUSED = [
    ("image/png", "a.png", PROGRAM, IMAGES),
    ("text/plain", "a.txt", PROGRAM, TEXTS),
    ("image/png", "a.flt", PROGRAM, IMAGES),  # what the table has for this name has no type
    ("application/pdf", "a.pdf", PROGRAM, ("application/pdf",)),
    ("image/png", "a.png", b"\x7fELF\2\1\1\0" + bytes(20), IMAGES),
    ("text/plain", "a.txt", b"\x7fELF\2\1\1\0" + bytes(20), TEXTS),
    ("text/plain", "a.txt", bytes.fromhex("cffaedfe07000001"), TEXTS),
    ("image/png", "a.png", b"#!/bin/sh\nrm -r /\n", IMAGES),
    ("image/png", "a.png", PAGE, (*IMAGES, "image/*,text/plain")),
    ("image/png", "a.png", b"\xef\xbb\xbf\n<!-- x -->\n<HTML lang=en>", IMAGES),
    ("image/png", "a.png", b" <script>alert(1)</script>", IMAGES),
    ("image/svg+xml", "a.svg", PAGE + b"</svg>", ("image/svg+xml", "image/*")),  # the name and the end say SVG
    ("image/svg+xml", "a.svg", XHTML, ("image/svg+xml", "image/*")),
    ("image/svg+xml", "a.svg", b"<?a?><html><?b?><svg >", ("image/svg+xml", "image/*")),
    ("text/plain", "a.txt", zipped("a.txt"), TEXTS),
    ("text/plain", "a.apk", zipped("a.txt"), TEXTS),
    ("text/plain", "a.ply", PLY, TEXTS),  # it has what a text of this name has at its place
    ("text/plain", "a.txt", bytes.fromhex("504b0506") + bytes(18), TEXTS),
    ("application/msword", "a.doc", zipped("a.txt"), ("application/msword",)),
    ("application/zip", "a.docx", zipped("a.txt"), (OOXML + "wordprocessingml.document",)),
    (OOXML + "wordprocessingml.document", "a.jar", zipped("a.txt"), (OOXML + "wordprocessingml.document",)),
    ("image/jpeg", "a.jpg", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ("image/jpeg",)),
    ("text/plain", "a.txt", b"%PDF-1.7\n", TEXTS),
]


async def take(declared, filename, head, types):
    async def chunks():
        yield head

    intake = UploadValidator(filename, declared, AttachmentSettings(max_bytes=100_000, types=types))
    assert b"".join([chunk async for chunk in intake.validated(chunks())]) == head


@each_row(("declared", "filename", "head"), TAKEN)
async def test_listed_type_is_accepted_by_its_first_bytes(declared, filename, head):
    for name in (filename, "file"):
        await take(declared, name, head, declared)


@each_row(("declared", "listed"), [(each, names[0]) for names in CONTENT_TYPE_ALIASES for each in names])
async def test_type_is_listed_by_each_of_its_names(declared, listed):
    """A name stands for one type, and types with the same signature have their registered names."""
    await take(declared, "file", b"word", listed)
    await take(listed, "file", b"word", declared)
    (names,) = (group for group in CONTENT_TYPE_ALIASES if declared in group)
    assert not {*names[1:]} & {each for group in TYPES_WITH_SHARED_CONTAINER for each in group}


@each_row(("declared", "filename", "head", "lists"), REFUSED)
async def test_unlisted_type_is_refused(declared, filename, head, lists):
    for types in lists:
        with pytest.raises(ValidationFailed):
            await take(declared, filename, head, types)


def test_file_that_the_library_fails_on_has_no_detected_type(monkeypatch):
    def fail(*_, **__):
        raise puremagic.PureError("no")

    assert detect_content_type(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.png") == "image/png"
    monkeypatch.setattr(puremagic, "from_string", fail)
    assert detect_content_type(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.png") is None
