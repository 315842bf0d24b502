/* status.c -- texts of statuses. */
#include "mlopt/mlopt.h"

const char *
ml_status_text(ml_status status)
{
	switch (status) {
#define ML_STATUS(number, name, tag, meaning)                                                      \
	case name: return meaning;
#include "mlopt/status.def"
	}
	return "unknown status";
}

const char *
ml_status_tag(ml_status status)
{
	switch (status) {
#define ML_STATUS(number, name, tag, meaning)                                                      \
	case name: return tag;
#include "mlopt/status.def"
	}
	return "unknown";
}
