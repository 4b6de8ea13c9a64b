"""What is read from an annotation, and which ones are refused."""

import math
import time

import pytest

from deepconv.data.sources import annotations
from deepconv.data.sources.annotations import AnnotationError, Object, parse

PERSON = """
<annotation>
  <folder>VOC2007</folder><filename>000217.jpg</filename>
  <size><width>500</width><height>333</height><depth>3</depth></size>
  <object>
    <name>person</name><difficult>0</difficult>
    <bndbox><ymax>333</ymax><xmax>409.5</xmax><xmin>133</xmin><ymin> 184 </ymin></bndbox>
    <part><name>head</name><bndbox>
      <xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>
  </object>
  <object><name>dog</name><difficult>1</difficult><bndbox><xmin>x</xmin></bndbox></object>
</annotation>
"""


def test_objects_are_read_without_their_parts():
    annotation = parse(PERSON.encode(), "000217")
    assert (annotation.height, annotation.width) == (333, 500)
    person, dog = annotation.objects
    assert person == Object("person", (133, 184, 409.5, 333), False)
    assert (dog.class_name, dog.difficult) == ("dog", True)
    assert all(map(math.isnan, dog.edges))


@pytest.mark.parametrize("name", ["a.b", "a.b.jpg", "folder/a.b.jpg", "%s", ""])
def test_the_name_of_the_picture_may_lack_the_extension_or_be_a_placeholder(name):
    parse(f"<annotation><filename>{name}</filename></annotation>".encode(), "a.b")


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width>0</width><height>5</height></size>", "<size>big</size>"]
)
def test_a_size_that_is_not_stated_is_zero(size):
    annotation = parse(f"<annotation>{size}</annotation>".encode(), "a")
    assert (annotation.height, annotation.width) == (0, 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is cut short or not XML"),
        (PERSON[:200].encode(), "is cut short or not XML"),
        (b"\xff\xd8\xff\xe0", "is cut short or not XML"),
        (b"<?xml version='1.0' encoding='big5-x'?><annotation/>", "is cut short or not XML"),
        (b"<html></html>", "is not an annotation: it contains <html>"),
        (b"<annotation><filename>b.jpg</filename></annotation>", "is of another picture, b.jpg"),
        (b"<!DOCTYPE annotation><annotation/>", "defines a document type or entities"),
        (
            b"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><annotation>&f;</annotation>",
            "defines a document type or entities",
        ),
        (b"<annotation>" + b" " * annotations.MAX_BYTES, "has 1,000,012 bytes"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(data, why):
    with pytest.raises(AnnotationError) as error:
        parse(data, "a")
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_entities_that_expand_to_gigabytes_are_refused_at_once():
    laughs = "".join(f"<!ENTITY l{i + 1} '{f'&l{i};' * 10}'>" for i in range(10))
    bomb = f"<!DOCTYPE x [<!ENTITY l0 'ha'>{laughs}]><annotation>&l10;</annotation>"
    start = time.monotonic()
    with pytest.raises(AnnotationError, match="entities"):
        parse(bomb.encode(), "a")
    assert time.monotonic() - start < 1
