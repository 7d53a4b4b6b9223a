"""The fields of a saved ML Program: a table of numbers and nothing else.

Source: coremltools mlmodel/format/Model.proto, FeatureTypes.proto and MIL.proto (as of release 9.0); a test compares this table with the
published classes. Messages about the program are closed: a field that is not known could change what is computed. Messages about the model
around it are open: what they say beyond these fields does not touch the computation.
"""

from __future__ import annotations

from runtime.mil.wire import Field, Message


def _map(name: str, entry: str) -> Field:
    return Field(name, "message", repeated=True, message=entry, is_map=True)


def _one(name: str, message: str, choice: str = "") -> Field:
    return Field(name, "message", message=message, choice=choice)


def _many(name: str, message: str) -> Field:
    return Field(name, "message", repeated=True, message=message)


def _entry(value: str) -> Message:
    return Message({1: Field("key", "string"), 2: _one("value", value)})


_PROGRAM = {
    "Program": Message(
        {1: Field("version", "int64"), 2: _map("functions", "FunctionEntry"), 3: Field("docString", "string"), 4: _map("attributes", "ValueEntry")}
    ),
    "Function": Message(
        {
            1: _many("inputs", "NamedValueType"),
            2: Field("opset", "string"),
            3: _map("block_specializations", "BlockEntry"),
            4: _map("attributes", "ValueEntry"),
        }
    ),
    "Block": Message(
        {
            1: _many("inputs", "NamedValueType"),
            2: Field("outputs", "string", repeated=True),
            3: _many("operations", "Operation"),
            4: _map("attributes", "ValueEntry"),
        }
    ),
    "Operation": Message(
        {
            1: Field("type", "string"),
            2: _map("inputs", "ArgumentEntry"),
            3: _many("outputs", "NamedValueType"),
            4: _many("blocks", "Block"),
            5: _map("attributes", "ValueEntry"),
        }
    ),
    "Argument": Message({1: _many("arguments", "Binding")}),
    "Binding": Message({1: Field("name", "string", choice="binding"), 2: _one("value", "Value", "binding")}),
    "NamedValueType": Message({1: Field("name", "string"), 2: _one("type", "ValueType")}),
    "FunctionEntry": _entry("Function"),
    "BlockEntry": _entry("Block"),
    "ArgumentEntry": _entry("Argument"),
    "ValueEntry": _entry("Value"),
}

_TYPES = {
    "ValueType": Message(
        {
            1: _one("tensorType", "TensorType", "type"),
            2: _one("listType", "ListType", "type"),
            3: _one("tupleType", "TupleType", "type"),
            4: _one("dictionaryType", "DictionaryType", "type"),
            5: _one("stateType", "StateType", "type"),
        }
    ),
    "TensorType": Message(
        {1: Field("dataType", "varint"), 2: Field("rank", "int64"), 3: _many("dimensions", "Dimension"), 4: _map("attributes", "ValueEntry")}
    ),
    "ListType": Message({1: _one("type", "ValueType"), 2: _one("length", "Dimension")}),
    "TupleType": Message({1: _many("types", "ValueType")}),
    "DictionaryType": Message({1: _one("keyType", "ValueType"), 2: _one("valueType", "ValueType")}),
    "StateType": Message({1: _one("wrappedType", "ValueType")}),
    "Dimension": Message({1: _one("constant", "ConstantDimension", "dimension"), 2: _one("unknown", "UnknownDimension", "dimension")}),
    "ConstantDimension": Message({1: Field("size", "varint")}),
    "UnknownDimension": Message({1: Field("variadic", "bool")}),
}

_VALUES = {
    "Value": Message(
        {
            1: Field("docString", "string"),
            2: _one("type", "ValueType"),
            3: _one("immediateValue", "ImmediateValue", "value"),
            5: _one("blobFileValue", "BlobFileValue", "value"),
        }
    ),
    "ImmediateValue": Message(
        {
            1: _one("tensor", "TensorValue", "value"),
            2: _one("tuple", "TupleValue", "value"),
            3: _one("list", "ListValue", "value"),
            4: _one("dictionary", "DictionaryValue", "value"),
        }
    ),
    "BlobFileValue": Message({1: Field("fileName", "string"), 2: Field("offset", "varint")}),
    "TensorValue": Message(
        {
            1: _one("floats", "RepeatedFloats", "value"),
            2: _one("ints", "RepeatedInts", "value"),
            3: _one("bools", "RepeatedBools", "value"),
            4: _one("strings", "RepeatedStrings", "value"),
            5: _one("longInts", "RepeatedLongInts", "value"),
            6: _one("doubles", "RepeatedDoubles", "value"),
            7: _one("bytes", "RepeatedBytes", "value"),
        }
    ),
    "RepeatedFloats": Message({1: Field("values", "float", repeated=True)}),
    "RepeatedInts": Message({1: Field("values", "int32", repeated=True)}),
    "RepeatedBools": Message({1: Field("values", "bool", repeated=True)}),
    "RepeatedStrings": Message({1: Field("values", "string", repeated=True)}),
    "RepeatedLongInts": Message({1: Field("values", "int64", repeated=True)}),
    "RepeatedDoubles": Message({1: Field("values", "double", repeated=True)}),
    "RepeatedBytes": Message({1: Field("values", "bytes")}),
    "TupleValue": Message({1: _many("values", "Value")}),
    "ListValue": Message({1: _many("values", "Value")}),
    "DictionaryValue": Message({1: _many("values", "KeyValuePair")}),
    "KeyValuePair": Message({1: _one("key", "Value"), 2: _one("value", "Value")}),
}

_MODEL = {
    "Model": Message(
        {1: Field("specificationVersion", "int32"), 2: _one("description", "ModelDescription"), 502: _one("mlProgram", "Program", "Type")}, open=True
    ),
    "ModelDescription": Message(
        {
            1: _many("input", "FeatureDescription"),
            10: _many("output", "FeatureDescription"),
            13: _many("state", "FeatureDescription"),
            20: _many("functions", "FunctionDescription"),
            21: Field("defaultFunctionName", "string"),
            100: _one("metadata", "Metadata"),
        },
        open=True,
    ),
    "FunctionDescription": Message(
        {
            1: Field("name", "string"),
            2: _many("input", "FeatureDescription"),
            3: _many("output", "FeatureDescription"),
            6: _many("state", "FeatureDescription"),
        },
        open=True,
    ),
    "FeatureDescription": Message({1: Field("name", "string"), 3: _one("type", "FeatureType")}, open=True),
    "Metadata": Message({100: _map("userDefined", "StringEntry")}, open=True),
    "StringEntry": Message({1: Field("key", "string"), 2: Field("value", "string")}),
    "FeatureType": Message(
        {
            4: _one("imageType", "ImageFeatureType", "Type"),
            5: _one("multiArrayType", "ArrayFeatureType", "Type"),
            8: _one("stateType", "StateFeatureType", "Type"),
            1000: Field("isOptional", "bool"),
        },
        open=True,
    ),
    "ImageFeatureType": Message(
        {
            1: Field("width", "int64"),
            2: Field("height", "int64"),
            3: Field("colorSpace", "varint"),
            21: _one("enumeratedSizes", "EnumeratedImageSizes", "SizeFlexibility"),
            31: _one("imageSizeRange", "ImageSizeRange", "SizeFlexibility"),
        },
        open=True,
    ),
    "EnumeratedImageSizes": Message({1: _many("sizes", "ImageSize")}),
    "ImageSize": Message({1: Field("width", "varint"), 2: Field("height", "varint")}),
    "ImageSizeRange": Message({1: _one("widthRange", "SizeRange"), 2: _one("heightRange", "SizeRange")}),
    "ArrayFeatureType": Message(
        {
            1: Field("shape", "int64", repeated=True),
            2: Field("dataType", "varint"),
            21: _one("enumeratedShapes", "EnumeratedShapes", "ShapeFlexibility"),
            31: _one("shapeRange", "ShapeRange", "ShapeFlexibility"),
            41: Field("intDefaultValue", "int32", choice="defaultOptionalValue"),
            51: Field("floatDefaultValue", "float", choice="defaultOptionalValue"),
            61: Field("doubleDefaultValue", "double", choice="defaultOptionalValue"),
        },
        open=True,
    ),
    "EnumeratedShapes": Message({1: _many("shapes", "Shape")}),
    "Shape": Message({1: Field("shape", "int64", repeated=True)}),
    "ShapeRange": Message({1: _many("sizeRanges", "SizeRange")}),
    "SizeRange": Message({1: Field("lowerBound", "varint"), 2: Field("upperBound", "int64")}),
    "StateFeatureType": Message({1: _one("arrayType", "ArrayFeatureType", "Type")}, open=True),
}

SCHEMA: dict[str, Message] = {**_MODEL, **_PROGRAM, **_TYPES, **_VALUES}
