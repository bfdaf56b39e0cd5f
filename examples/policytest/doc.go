// Package policytest is a company's policy and the test of it.
package policytest
