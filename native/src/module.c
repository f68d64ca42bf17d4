/* leyden_native: the two loops of Leyden's ingest that cost most, in C. See docs/design/0005-native-decoder.md. */
#include "native.h"

static PyMethodDef methods[] = {
    {"spans_json", (PyCFunction)(void (*)(void))spans_json, METH_FASTCALL,
     "spans_json(rows) -> list: the JSON of protobuf payloads; None for each that only Python reads."},
    {NULL, NULL, 0, NULL},
};

static int start(PyObject *module) {
    PyObject *type = make_reader_type(module);
    if (!type) return -1;
    int added = PyModule_AddObjectRef(module, "Reader", type);
    Py_DECREF(type);
    return added;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)start}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "leyden_native._decoder", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__decoder(void) {
    return PyModuleDef_Init(&definition);
}
