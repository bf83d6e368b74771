@0xd1c9a1f0b7e30001;
# What plainc understands beyond the schema language itself.

annotation optional @0xd1c9a1f0b7e30002 (field) :Void;
# The field (Text, Data, struct or list) becomes std::optional; absent = null pointer.

annotation secret @0xd1c9a1f0b7e30003 (field) :Void;
# Printed as "***".
