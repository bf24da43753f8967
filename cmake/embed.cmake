# Writes the bytes of IN as a C array: lethe_descriptor_set, lethe_descriptor_set_size.
file(READ ${IN} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," array "${hex}")
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
file(WRITE ${OUT} "#include <stddef.h>\nconst unsigned char lethe_descriptor_set[] = {${array}};\n"
     "const size_t lethe_descriptor_set_size = ${size};\n")
