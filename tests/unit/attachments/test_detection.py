"""What a file's first bytes say it is."""

import puremagic

from support_service.attachments.upload.detection import detect


def test_file_that_the_library_fails_on_has_no_detected_type(monkeypatch):
    """It is no error."""

    def fail(*_, **__):
        raise puremagic.PureError("no")

    assert detect(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.png") == "image/png"
    monkeypatch.setattr(puremagic, "from_string", fail)
    assert detect(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.png") is None
